"""The plug-in with which transformers loads shaped models: as for a quantiser, modules change before weights.

Beside that it does nothing: a loaded model is not quantised, and it can be trained and saved as any other.
"""

from __future__ import annotations

from typing import Any

from .shaped import check_record, finish, fitted, reshape

METHOD = "prunus"


def register() -> None:
    """Let transformers know the plug-in, once."""
    # Only where transformers is in use, which takes long to import.
    from transformers.quantizers import auto
    from transformers.quantizers.base import HfQuantizer
    from transformers.utils.quantization_config import QuantizationConfigMixin

    if METHOD in auto.AUTO_QUANTIZER_MAPPING:
        return

    @auto.register_quantization_config(METHOD)
    class PrunedConfig(QuantizationConfigMixin):
        """The record of a shaped model in its config."""

        def __init__(self, record: dict[str, Any] | None = None, **_: Any):
            check_record(record)
            self.quant_method: Any = METHOD
            self.record = record

        def to_dict(self) -> dict[str, Any]:
            return {"quant_method": METHOD, "record": self.record}

        def to_diff_dict(self) -> dict[str, Any]:
            return self.to_dict()

    @auto.register_quantizer(METHOD)
    class PrunedModel(HfQuantizer):
        """Gives a model on the meta device the sizes of the record before its weights come."""

        quantization_config: Any
        record: Any

        def _process_model_before_weight_loading(self, model: Any, **_: Any) -> Any:
            self.record = fitted(model, self.quantization_config.record)
            reshape(model, self.record)
            return model

        def postprocess_model(self, model: Any, **_: Any) -> Any:
            finish(model, self.record)
            model.config.quantization_config = self.quantization_config.to_dict()  # which pickles
            del model.hf_quantizer
            del model.quantization_method
            model.is_quantized = False
            return model

        def is_serializable(self, *_: Any, **__: Any) -> bool:
            return True

        @property
        def is_trainable(self) -> bool:
            return True
