"""What ``loadline up`` plays by itself."""

from pydantic import BaseModel, ConfigDict, Field


class TrafficSettings(BaseModel):
    """The section ``[traffic]`` of ``loadline.toml``; each field is an option of ``loadline replay run``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trace: str = Field("samples/traces/azure_conv_10min.csv", description="trace file to play, over and over")
    speed: float = Field(0.5, gt=0, description="1 plays as fast as recorded")
    token_scale: float = Field(0.25, gt=0, description="factor on prompt and output lengths")
    seed: int = Field(1, ge=0, description="seed of the first round's prompts; each later round takes the next")
