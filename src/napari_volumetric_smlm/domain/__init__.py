"""The nouns: frozen and validated, free of torch, files and algorithms."""
