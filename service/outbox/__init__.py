"""The stage that tells what happened, once: emit with the change, deliver later."""
