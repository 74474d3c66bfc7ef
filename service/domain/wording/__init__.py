"""What people read, in every language, from the one place where the machine's own codes and terms get their words."""
