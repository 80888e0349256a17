"""The model: its card, the network in plain torch, how it is stored and run."""
