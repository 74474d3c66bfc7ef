"""The stage between what is known and what is booked: assess, review, settle."""
