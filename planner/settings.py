"""What ``loadline up`` plays and foretells by itself."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from collector.model.durations import SHAPE, parse_duration_ms


def _duration(text: str) -> str:
    if not parse_duration_ms(text):
        raise ValueError(f"must be a duration above 0; {SHAPE}")
    return text


class TrafficSettings(BaseModel):
    """The section ``[traffic]`` of ``loadline.toml``; each field is an option of ``loadline replay run``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trace: str = Field("samples/traces/azure_conv_10min.csv", description="trace file to play, over and over")
    speed: float = Field(0.5, gt=0, description="1 plays as fast as recorded")
    token_scale: float = Field(0.25, gt=0, description="factor on prompt and output lengths")
    seed: int = Field(1, ge=0, description="seed of the first round's prompts; each later round takes the next")


class PlanSettings(BaseModel):
    """The section ``[plan]`` of ``loadline.toml``; but for ``headroom``, a field is an option of ``plan headroom``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    headroom: bool = Field(True, description="whether the headroom of each pool is worked out and written back")
    interval: Annotated[str, AfterValidator(_duration)] = Field("60s", description="time between two rounds")
    look_back: Annotated[str, AfterValidator(_duration)] = Field(
        "15m", description="how far back step times and lengths are taken from"
    )
