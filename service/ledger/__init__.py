"""The stage where money is booked: post, read balances, audit, chain."""
