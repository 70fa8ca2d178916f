"""How scenarios are made: families of rules, small talk, frames, layout, questions."""
