"""Backbones of `transformers`, as small as their configurations allow."""

VIT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 224}
STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 32]}
WINDOWS = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2], "window_size": 7, "image_size": 224}

CONFIGS: dict[str, dict[str, object]] = {
    "resnet": {
        "embedding_size": 16,
        "hidden_sizes": [32, 32, 32, 32],
        "depths": [1, 1, 1, 1],
        "layer_type": "bottleneck",
    },
    "convnext": {**STAGES, "drop_path_rate": 0.5},
    "swin": {**WINDOWS, "drop_path_rate": 0.1},
    "beit": {**VIT, "intermediate_size": 64, "patch_size": 16, "use_relative_position_bias": True},
    "dinov2": {**VIT, "patch_size": 14},
    "dinov3_vit": {**VIT, "intermediate_size": 64, "patch_size": 16},
}


def config(model_type: str, **changes: object) -> dict[str, object]:
    return {"model_type": model_type, **CONFIGS[model_type], **changes}
