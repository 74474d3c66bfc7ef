"""What is measured, what is proven on real orders, and the demo. Everything here talks to the service over HTTP."""
