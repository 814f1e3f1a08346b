"""SIP: phones register here, calls come and go here."""
