"""The audit trail: who did what, kept so that whoever changes it afterwards is found out."""
