"""The built-in corpus: synthetic English from the project's own seeded grammar, no download needed.

`nouns`, `people`, `actions`, `occasions` and `jobs` are the lexicon; `phrases`, `patterns`, `descriptions`
and `speech` the grammar, written in the small language that `templates` compiles; `scene` keeps who takes
part in a sentence; `agreement` and `morphology` inflect; `stream` draws distinct sentences. No text was
taken from anywhere.
"""

from sgdd_engine.data.builtin.stream import DESCRIPTION, builtin_sentences

__all__ = ["DESCRIPTION", "builtin_sentences"]
