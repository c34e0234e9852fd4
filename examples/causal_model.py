"""A causal Transformer that reads a vector as a prefix: the network of `causal_decoder.py`."""

import itertools

import torch
from torch import Tensor, nn

from sgdd_engine.models.blocks import attend, rotary_angles, rotate
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.models.head import VocabularyHead
from sgdd_engine.models.model import Standardize

Past = tuple[Tensor, Tensor]


class Block(nn.Module):
    """Causal attention and feed-forward, each behind a LayerNorm: [B, L, width], after P positions of the past."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], past: Past | None = None
    ) -> tuple[Tensor, Past]:
        """The new positions, and the keys and values of all."""
        rows, length, _ = x.shape
        parts = self.qkv(self.attention_norm(x)).view(rows, length, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        q, k = rotate(q, angles), rotate(k, angles)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        # One new position sees all there is; of several, each sees what stands before it.
        mixed = attend(q, k, v) if length == 1 else _attend_back(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out, (k, v)


def _attend_back(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    length, seen = scores.shape[-2:]
    later = torch.ones(length, seen, dtype=torch.bool, device=q.device).triu(1 + seen - length)
    mixed: Tensor = scores.masked_fill(later, -torch.inf).softmax(dim=-1) @ v
    return mixed


class CausalDecoder(nn.Module):
    """Prefix tokens made from the vector, `<s>`, then the sentence and `</s>`, each predicted from what is before it.

    Args:
        config: Shapes of the sgdd model it stands beside.
        layers: Its own depth.
    """

    def __init__(self, config: ModelConfig, layers: int) -> None:
        super().__init__()
        decoder, self.config = config.decoder, config
        width, self.prefix_tokens = decoder.width, max(1, decoder.memory_tokens)
        self.standardize = Standardize(config.embedding_dim)
        self.prefix = nn.Sequential(
            nn.Linear(config.embedding_dim, width), nn.GELU(), nn.Linear(width, self.prefix_tokens * width)
        )
        self.head = VocabularyHead(config.vocabulary.size, width)
        inner = int(width * decoder.mlp_ratio)
        self.blocks = nn.ModuleList(Block(width, decoder.heads, inner) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, e: Tensor, x: Tensor) -> Tensor:
        """Hidden states [B, n + 1, width] that predict `x` [B, n] and the end after it, given vectors [B, D]."""
        hidden, _ = self._read(self._start(e, x), 0, None)
        return hidden[:, self.prefix_tokens :]

    @torch.inference_mode()
    def write(self, e: Tensor, forbidden: tuple[int, ...], *, cached: bool = True) -> list[list[int]]:
        """The likeliest next token again and again, until every sentence has ended: token ids of each vector.

        Args:
            e: Vectors [B, D].
            forbidden: Ids that are never written, apart from the end.
            cached: Keep keys and values; otherwise all is computed anew for every token (for a test).
        """
        end = self.config.vocabulary.eos_id
        never = [index for index in forbidden if index != end]
        x = torch.empty(len(e), 0, dtype=torch.long, device=e.device)
        fresh, past, done = self._start(e, x), None, 0
        ended = torch.zeros(len(e), dtype=torch.bool, device=e.device)
        while x.shape[1] < self.config.max_tokens and not bool(ended.all()):
            hidden, keys_values = self._read(fresh, done, past)
            logits = self.head.logits(hidden[:, -1])
            logits[:, never] = -torch.inf
            token = logits.argmax(dim=-1)
            ended |= token == end
            x = torch.cat([x, token[:, None]], dim=1)
            if cached:
                done, past, fresh = done + fresh.shape[1], keys_values, self.head.embed(token[:, None])
            else:
                fresh = self._start(e, x)
        return [list(itertools.takewhile(lambda index: index != end, row)) for row in x.tolist()]

    def _start(self, e: Tensor, x: Tensor) -> Tensor:
        prefix = self.prefix(self.standardize(e)).unflatten(-1, (self.prefix_tokens, -1))
        begin = torch.full_like(e[:, :1], self.config.vocabulary.bos_id, dtype=torch.long)
        return torch.cat([prefix, self.head.embed(torch.cat([begin, x], dim=1))], dim=1)

    def _read(self, fresh: Tensor, done: int, past: list[Past] | None) -> tuple[Tensor, list[Past]]:
        x, kept = fresh, []
        head_dim = self.config.decoder.width // self.config.decoder.heads
        cos, sin = rotary_angles(done + x.shape[1], head_dim, x.device)
        for number, block in enumerate(self.blocks):
            x, keys_values = block(x, (cos[done:], sin[done:]), past[number] if past else None)
            kept.append(keys_values)
        return self.norm(x), kept

    def nll(self, e: Tensor, x: Tensor, weight: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weighted sum of the nats of `x` [B, n] and the end; and nats of each sentence [B], detached."""
        targets = torch.cat([x, torch.full_like(x[:, :1], self.config.vocabulary.eos_id)], dim=1)
        hidden = self(e, x).flatten(0, 1).to(dtype)
        weights = torch.full(targets.shape, weight, device=x.device).flatten()
        scores = self.head.cross_entropy(hidden, targets.flatten(), weights)
        return scores.loss, scores.nll.view(targets.shape).sum(dim=1)


def like(config: ModelConfig, parameters: int) -> int:
    """The number of layers with which the causal decoder comes nearest to so many parameters."""

    def size(layers: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in CausalDecoder(config, layers).parameters())

    one, two = size(1), size(2)
    return max(1, 1 + round((parameters - one) / (two - one)))
