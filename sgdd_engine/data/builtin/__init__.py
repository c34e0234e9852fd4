"""The built-in corpus: synthetic English from the project's own seeded grammar, no download needed.

`grammar.toml` holds the words and the patterns; `grammar` compiles them and draws the sentences; `scene` keeps who
takes part in a sentence; `english` inflects.
"""

from sgdd_engine.data.builtin.grammar import BUILTIN_SENTENCES, builtin_sentences

__all__ = ["BUILTIN_SENTENCES", "builtin_sentences"]
