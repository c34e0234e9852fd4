"""The model card that a checkpoint carries as its README.md."""

from sgdd_engine.checkpoint.info import CheckpointInfo


def model_card(info: CheckpointInfo) -> str:
    """What a checkpoint is, what it needs, how it scored, as Markdown."""
    decoder, encoder, facts = info.model.decoder, info.encoder, info.facts
    lines = [
        "# A semantic-guided discrete diffusion decoder",
        "",
        f"Writes a sentence from one vector of `{encoder.name}` ({encoder.dim} dimensions, {encoder.pooling} pooling).",
        "",
        f"- decoder: {decoder.layers} layers × {decoder.width}, {decoder.memory_tokens} memory tokens",
        f"- vocabulary: {info.model.vocabulary.size:,} pieces; up to {info.model.max_tokens} tokens",
        f"- bottleneck: {info.model.bottleneck.kind}",
        f"- trained for {info.step:,} steps on {facts.get('corpus', {}).get('name', 'an unnamed corpus')}",
    ]
    if validation := facts.get("validation"):
        nelbo, loss = validation["nelbo_nats_per_token"], validation["loss"]
        lines.append(f"- held out: {nelbo:.3f} nats per token (NELBO), loss {loss:.3f}")
    if info.sampling:
        lines.append(f"- sampled best with {', '.join(f'{k} {v:g}' for k, v in info.sampling.items())}")
    lines += [
        "",
        "Use it:",
        "",
        '    sgdd sample "text" --checkpoint THIS_FOLDER',
        "    sgdd eval THIS_FOLDER",
        "",
    ]
    return "\n".join(lines)
