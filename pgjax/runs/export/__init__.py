"""Export: a policy as a program of another kind, with a card, compared with the original."""
