"""Frames whose molecules are known: where they sit and when they blink, what reaches the cameras, and what the cameras make of it."""
