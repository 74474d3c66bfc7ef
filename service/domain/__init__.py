"""Decisions: plain functions of plain values. No I/O, no clock, no framework; standard library only."""
