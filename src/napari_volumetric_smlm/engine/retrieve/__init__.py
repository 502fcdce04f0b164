"""From bead stacks to the pupil: beads found, pupils retrieved, views registered."""
