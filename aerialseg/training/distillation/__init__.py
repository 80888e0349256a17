"""Knowledge distillation: a teacher, and the loss by which a network learns from it."""
