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

    cfg: float | None = Field(default=None, ge=0, le=20, description="Guidance weight; 1 is none.")
    steps: int | None = Field(default=None, ge=1, le=128, description="Denoising steps.")
    temperature: float | None = Field(default=None, ge=0, le=10, description="0 takes the likeliest token.")
    length: int | str | None = Field(
        default=None, description='Tokens of a text, or a range such as "6-9"; by default the model chooses.'
    )
    candidates: int | None = Field(
        default=None,
        ge=1,
        le=32,
        description="Texts that are written and encoded for each vector; the closest one is kept.",
    )
    num_samples: int | None = Field(default=None, ge=1, le=32, description="Texts kept for each vector.")
    seed: int | None = Field(
        default=None, ge=0, le=2**62, description="A text depends on its vector, the options and the seed."
    )
    stream: bool = Field(
        default=False, description="Answer with server-sent events: see the description of this call."
    )


class RefinedOptions(Options):
    """As `Options`, with rounds of refining or a search, and the probability of each token."""

    refine: int | None = Field(
        default=None, ge=0, le=64, description="Rounds in which a text is changed and kept if closer."
    )
    search: int | None = Field(
        default=None,
        ge=0,
        le=512,
        description="Encoder calls for each text that are spent on a search, in the place of refining.",
    )
    explain: bool = Field(default=False, description="Say how sure each token was.")


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
        default=None, description="Vectors of the model's encoder, in the place of texts."
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
    vectors: list[Vector] | None = Field(default=None, description="The same as vectors.")
    explain: bool = Field(default=False, description="Say how sure each token was.")


class BlendBody(RefinedOptions):
    """Texts or vectors that are added."""

    texts: list[str] | None = Field(
        default=None, description="Texts.", examples=[["The king died.", "The queen wept."]]
    )
    vectors: list[Vector] | None = Field(default=None, description="Vectors, in the place of texts.")
    weights: list[float] | None = Field(
        default=None,
        description="One for each; by default 1. A negative one subtracts.",
        examples=[[0.7, 0.3]],
    )


class InterpolateBody(RefinedOptions):
    """Two texts or vectors, and how many points between them."""

    texts: list[str] | None = Field(
        default=None,
        description="From the first to the second.",
        examples=[["The king died.", "The queen wept."]],
    )
    vectors: list[Vector] | None = Field(default=None, description="Two vectors, in the place of texts.")
    points: int = Field(default=5, ge=2, le=32, description="Points, both ends included.")


class Token(BaseModel):
    """How sure one token was."""

    piece: str = Field(description="As the vocabulary spells it.")
    probability: float
    entropy: float | None = Field(default=None, description="Of the distribution, in nats.")
    step: int | None = Field(default=None, description="The step that wrote it, from 1.")


class Alternative(BaseModel):
    """A text that was encoded and not kept."""

    text: str
    cosine: Share


class Written(BaseModel):
    """One written text."""

    row: int = Field(description="Of which text, vector or point.")
    text: str
    cosine: Share | None = Field(
        default=None, description="Of its own vector with the one it was written from."
    )
    seed: int
    encoder_calls: int = 0
    id: str | None = Field(default=None, description="Of the row of the file.")
    share: float | None = Field(
        default=None, description="How far from the first end the point lies, 0 to 1."
    )
    cosines: list[Share] | None = Field(default=None, description="Of its own vector with each part or end.")
    blanks: list[str] | None = Field(default=None, description="What was written in each blank.")
    alternatives: list[Alternative] | None = Field(
        default=None, description="The n-best list without the best."
    )
    tokens: list[Token] | None = None


class WrittenAnswer(BaseModel):
    """Written texts, in the order of what was given."""

    results: list[Written]
    notes: list[str] = Field(description="What may have changed a result, a sentence each.")


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
    dim: int = Field(description="Numbers of a vector.")
    max_tokens: int = Field(description="Tokens of the longest text that it writes.")
    guidance: bool = Field(description="Whether it was trained for guidance (cfg other than 1).")
    defaults: Defaults
    sure: float = Field(description="Pieces are shown as sure from this probability.")
    fair: float = Field(description="Pieces are shown as fairly sure from this probability.")
    limits: dict[str, float]
    version: str


class Failure(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="One sentence.")
    hint: str | None = Field(default=None, description="What to do about it.")


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
