"""Who serves whom: contacts, cases, interactions and their distribution."""
