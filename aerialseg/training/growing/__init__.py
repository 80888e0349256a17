"""Training the coarse layers of a network first: steps with a stride, finer layers grown on them, means of weights."""
