"""Attacks by thieves: what a stolen model is worth without the key it was trained under."""
