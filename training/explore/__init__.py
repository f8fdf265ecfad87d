"""How the recommended tags follow the user's history (paper, Table XII and Figure 4)."""
