"""Attacks on what the project promises: real signals, real full disks, real bad bytes. ``make torture`` runs all."""
