"""The dialect: what clients send and read, what the upstream is sent and answers.

JSON on one side, ``models`` on the other.
"""
