"""What is withheld from payouts: dated rule tables, and the one decision made of them for each payout."""
