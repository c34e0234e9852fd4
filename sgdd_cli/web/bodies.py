"""What the HTTP API takes and gives: pydantic models, which check what comes and make the OpenAPI document."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Vector = list[float]
Share = Annotated[float, Field(ge=-1.001, le=1.001)]


class _Given(BaseModel):
    """A body of a request: an unknown key is refused, and a number is not a text."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Options(_Given):
    """How texts are written; what is not given is as `sgdd play` was started."""

    cfg: float | None = Field(default=None, ge=0, le=20, description="Guidance weight; 1 means no guidance.")
    steps: int | None = Field(default=None, ge=1, le=128, description="Denoising steps.")
    temperature: float | None = Field(
        default=None, ge=0, le=10, description="Randomness of the tokens; 0 takes the most likely ones."
    )
    length: int | str | None = Field(
        default=None, description='Tokens of a text, or a range such as "6-9"; by default the model chooses.'
    )
    candidates: int | None = Field(
        default=None,
        ge=1,
        le=32,
        description="Number of texts written and encoded for each vector; the closest one is kept.",
    )
    num_samples: int | None = Field(
        default=None, ge=1, le=32, description="Number of texts kept for each vector."
    )
    seed: int | None = Field(
        default=None, ge=0, le=2**62, description="The same seed, options and vector give the same text."
    )
    stream: bool = Field(
        default=False, description="Answer with server-sent events: see the description of this call."
    )


class RefinedOptions(Options):
    """As `Options`, with rounds of refining or a search, and the probability of each token."""

    refine: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Number of rounds that change a text and keep it if it is closer.",
    )
    search: int | None = Field(
        default=None,
        ge=0,
        le=512,
        description="Number of encoder calls for each text in a search, which takes the place of refining.",
    )
    explain: bool = Field(default=False, description="Also give the probability of each token.")


class EncodeBody(_Given):
    """Texts to encode."""

    texts: list[str] = Field(
        description="Texts, one sentence each.", examples=[["The old man opened the door."]]
    )


class GenerateBody(RefinedOptions):
    """Texts, which are encoded first, or vectors of the model's encoder."""

    texts: list[str] | None = Field(
        default=None, description="Texts to write again.", examples=[["The old man opened the door."]]
    )
    vectors: list[Vector] | None = Field(
        default=None, description="Vectors of the model's encoder, instead of texts."
    )


class FillBody(Options):
    """Texts with blanks, and what the whole texts should say."""

    texts: list[str] = Field(
        description="Texts with blanks: [MASK], [MASK:3] of three tokens, [MASK:2-4].",
        examples=[["The old man opened the [MASK]."]],
    )
    meanings: list[str] | None = Field(
        default=None, description="What the whole text should say: one text for all, or one for each."
    )
    vectors: list[Vector] | None = Field(
        default=None, description="The meanings as vectors, instead of texts."
    )
    explain: bool = Field(default=False, description="Also give the probability of each token.")


class BlendBody(RefinedOptions):
    """Texts or vectors that are added."""

    texts: list[str] | None = Field(
        default=None, description="Texts.", examples=[["The king died.", "The queen wept."]]
    )
    vectors: list[Vector] | None = Field(default=None, description="Vectors, instead of texts.")
    weights: list[float] | None = Field(
        default=None,
        description="A weight for each, by default 1; a negative one subtracts.",
        examples=[[0.7, 0.3]],
    )


class InterpolateBody(RefinedOptions):
    """Two texts or vectors, and how many points between them."""

    texts: list[str] | None = Field(
        default=None,
        description="Two texts: the first point and the last.",
        examples=[["The king died.", "The queen wept."]],
    )
    vectors: list[Vector] | None = Field(default=None, description="Two vectors, instead of texts.")
    points: int = Field(default=5, ge=2, le=32, description="Number of points, both ends included.")


class Token(BaseModel):
    """How sure one token was."""

    piece: str = Field(description="The piece as it stands in the vocabulary.")
    probability: float
    entropy: float | None = Field(
        default=None, description="Entropy of the distribution that it was taken from, in nats."
    )
    step: int | None = Field(default=None, description="The step that wrote it, from 1; 0 if it was given.")


class Alternative(BaseModel):
    """A text that was encoded and not kept."""

    text: str
    cosine: Share


class Written(BaseModel):
    """One written text."""

    row: int = Field(
        description="Index of the text, vector or point that it belongs to, from 0; of a file the number of the row, "
        "lines without text not counted."
    )
    text: str
    cosine: Share | None = Field(
        default=None,
        description="Cosine between the vector of the text and the vector that it was written from.",
    )
    seed: int
    encoder_calls: int = 0
    id: str | None = Field(default=None, description="Id of the row in the file.")
    share: float | None = Field(
        default=None, description="Place of the point between the first end (0) and the last (1)."
    )
    cosines: list[Share] | None = Field(
        default=None, description="Cosines between the vector of the text and each part or end."
    )
    blanks: list[str] | None = Field(default=None, description="What was written in each blank.")
    alternatives: list[Alternative] | None = Field(
        default=None, description="The other texts that were encoded, the closest first."
    )
    tokens: list[Token] | None = None


class WrittenAnswer(BaseModel):
    """Written texts, in the order of what was given."""

    results: list[Written]
    notes: list[str] = Field(description="Sentences about what may have changed a result.")


class EncodedAnswer(BaseModel):
    """Vectors, in the order of the texts."""

    vectors: list[Vector]
    dim: int
    encoder: str = Field(description="The name of the encoder.")
    notes: list[str]


class Defaults(BaseModel):
    """How texts are written where a request says nothing else."""

    cfg: float
    steps: int
    temperature: float
    candidates: int
    refine: int
    search: int
    seed: int


class ModelAnswer(BaseModel):
    """The model, and what may be asked of it."""

    checkpoint: str
    encoder: str
    dim: int = Field(description="Number of dimensions of a vector.")
    max_tokens: int = Field(description="Length in tokens of the longest text that it writes.")
    guidance: bool = Field(description="Whether it was trained for guidance (cfg other than 1).")
    defaults: Defaults
    sure: float = Field(description="Pieces are shown as sure from this probability.")
    fair: float = Field(description="Pieces are shown as fairly sure from this probability.")
    limits: dict[str, float]
    version: str


class Failure(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="One sentence.")
    hint: str | None = Field(default=None, description="What you can do about it.")


def sentence_of(error: ValidationError) -> str:
    """The first fault of a body in one sentence."""
    fault: Any = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # Names of the parts of a union are no places.
    place = ".".join(str(part) for part in fault["loc"] if part not in ("int", "str", "constrained-str"))
    if fault["type"] == "extra_forbidden":
        return f"There is no option `{place}`."
    if fault["type"] == "missing":
        return f"`{place}` is missing."
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"`{place}`: {message}." if place else f"The body is wrong: {message}."
