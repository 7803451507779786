"""Packaging of tfanet-edge: what each kind of machine installs, and the commands it gets."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ("edge", "training", "export", "calibration", "simulator")

EDGE = [
    "genicam>=1.6,<2",
    "harvesters>=1.4.3,<2",
    "numpy>=1.26,<3",
    "onnxruntime>=1.18,<2",
    "opencv-python-headless>=4.8,<6",
    "paho-mqtt>=2.1,<3",
    "pydantic>=2.7,<3",
    "python-ulid>=2.7,<4",
    "tomli>=2,<3; python_version < '3.11'",
]
# The last versions that build against the introspection library of Debian 12 and Ubuntu 22.04.
ARAVIS = ["PyGObject>=3.42,<3.51"]
DASHBOARD = ["starlette>=0.40,<2", "uvicorn>=0.30,<1"]
DEMO = ["jsonschema>=4.22,<5", "amqtt>=0.11,<0.13"]
SPARKPLUG = [
    "paho-mqtt>=2.1,<3",
    "protobuf>=5.29,<8",
    "pydantic>=2.7,<3",
    "tomli>=2,<3; python_version < '3.11'",
]
TRAINING = [
    "jinja2>=3.1,<4",
    "matplotlib>=3.8,<4",
    "onnx>=1.17,<2",
    "onnxscript>=0.5,<1",
    "scikit-learn>=1.4,<2",
    "scipy>=1.11,<2",
    "torch>=2.4,<3",
    "tqdm>=4.66,<5",
]
GRAPHS = ["cuda-bindings>=12.6,<14"]
DEV = [
    *ARAVIS,
    *GRAPHS,
    *SPARKPLUG,
    "hypothesis>=6.100",
    "import-linter>=2.1",
    "mypy>=1.11",
    "pycocotools>=2.0.8",
    "pytest>=8.2",
    "pytest-cov>=7",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "ruff>=0.6",
    "selenium>=4.20",
    # NVIDIA's ONNX parser and builder, which need no GPU.
    "tensorrt-rtx-cu13-bindings>=1.7.1,<1.8; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "tensorrt-rtx-cu13-libs>=1.7.1,<1.8; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "types-jsonschema",
    "types-protobuf",
    "types-tqdm",
]

setup(
    name="tfanet-edge",
    version="0.1.0",
    description="Edge inspection station: GenICam camera, TFA-Net anomaly detection, verdicts over MQTT",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=[f"{name}{rest}" for name in PACKAGES for rest in ("", ".*")]),
    package_data={
        "edge": ["py.typed", "kernels.cu", "dashboard/static/*", "schemas/*.json"],
        "simulator": ["native/*.[ch]", "native/*.xml", "demo_bundle/*"],
        "training": ["page_style.css", "evaluation/*.j2"],
        "export": ["*.j2"],
    },
    install_requires=[],
    extras_require={
        "edge": EDGE,
        "jetson": [*EDGE, "pycuda>=2024.1", "tqdm>=4.66,<5"],
        "graphs": GRAPHS,
        "consumer": ["paho-mqtt>=2.1,<3"],
        "aravis": [*EDGE, *ARAVIS],
        "dashboard": DASHBOARD,
        "sparkplug": SPARKPLUG,
        "demo": [*EDGE, *DASHBOARD, *DEMO],
        "training": [*EDGE, *TRAINING],
        "dev": [*EDGE, *DASHBOARD, *DEMO, *TRAINING, *DEV],
    },
    entry_points={
        "console_scripts": ["tfanet-edge = edge.cli:main", "calibrate-int8 = calibration.cli:main"],
        "tfanet_edge.commands": [
            "run = edge.startup:add_command",
            "calibrate-int8 = calibration.command:add_command [training]",
            "ablate = training.ablation:add_command [training]",
            "threshold = calibration.threshold:add_command [training]",
            "build = export.build_command:add_command [jetson]",
            "export = export.command:add_command [training]",
            "recommend = export.recommend:add_command [training]",
            "train = training.command:add_command [training]",
            "evaluate = training.evaluation.command:add_command [training]",
            "bench = edge.bench.command:add_command",
            "verify = edge.verify:add_command",
            "cameras = edge.cameras.listing:add_command",
            "outbox = edge.outbox.command:add_command",
            "sparkplug = edge.sparkplug.command:add_command [sparkplug]",
            "demo = simulator.demo:add_command [demo]",
        ],
    },
)
