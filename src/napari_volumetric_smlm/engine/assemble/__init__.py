"""From points to numbers and pictures: scores against a truth, super-resolved renderings."""
