"""Utility against leakage: policies, scopes and layers of protection, with accuracy and what attacks recover."""
