"""Steps of the table of `shell_steps.py`: lines that Dockerfiles of machine-learning projects have most often."""

from __future__ import annotations

from typing import Final

from benchmarks.shell_step import ShellStep, all_of, apt, pip, write

__all__ = ["MACHINE_LEARNING"]

_DEBIAN: Final = (
    ("git", "curl", "wget", "vim"),
    ("ffmpeg", "libsm6", "libxext6"),
    ("libgl1", "libglib2.0-0"),
    ("cmake", "ninja-build", "pkg-config"),
    ("python3-dev", "python3-setuptools"),
    ("libopenblas-dev", "liblapack-dev", "gfortran"),
    ("libpq-dev", "libssl-dev", "libffi-dev"),
    ("default-libmysqlclient-dev",),
    ("unzip", "zip", "p7zip-full"),
    ("tini", "dumb-init", "gosu"),
    ("tmux", "htop", "nano", "less"),
    ("jq", "sqlite3", "libsqlite3-dev"),
    ("libhdf5-dev",),
    ("poppler-utils", "tesseract-ocr"),
    ("sox", "libsndfile1", "espeak-ng"),
    ("openmpi-bin", "libopenmpi-dev"),
    ("rsync", "openssh-client"),
    ("xvfb",),
    ("software-properties-common", "gnupg"),
    ("libjpeg-dev", "libpng-dev", "zlib1g-dev"),
    ("graphviz", "fonts-dejavu"),
    ("python3-numpy", "python3-scipy"),
)
_PYTHON: Final = (
    ("scikit-learn",),
    ("fastapi", "uvicorn[standard]", "gunicorn"),
    ("jupyterlab",),
    ("transformers", "tokenizers"),
    ("onnxruntime",),
    ("pillow", "opencv-python-headless"),
    ("tensorboard",),
    ("pyarrow",),
    ("boto3", "awscli"),
    ("--upgrade", "pip", "setuptools", "wheel"),
    ("--no-deps", "datasets"),
    ("wandb",),
)

MACHINE_LEARNING: Final = (
    *(ShellStep(name=f"apt: {', '.join(names)}", script=apt(*names)) for names in _DEBIAN),
    *(ShellStep(name=f"pip: {', '.join(names)}", script=pip(*(f"'{name}'" for name in names))) for names in _PYTHON),
    ShellStep(
        name="pip -r, the file removed",
        script=all_of(write("/tmp/r.txt", "requests==2.32.3", "tqdm"), pip("-r /tmp/r.txt"), "rm /tmp/r.txt"),
    ),
    ShellStep(name="ln -s python3 python", script="ln -s /usr/bin/python3 /usr/local/bin/python"),
    ShellStep(
        name="apt, pip, lists removed, one line",
        script=all_of(apt("git", "gcc"), pip("numpy"), "apt-get clean", "rm -rf /var/lib/apt/lists/* /root/.cache"),
    ),
    ShellStep(
        name="a venv in /opt, its PATH in a profile",
        script=all_of(
            apt("python3-venv"),
            "python3 -m venv /opt/venv",
            "/opt/venv/bin/pip install -q --upgrade pip",
            "/opt/venv/bin/pip install -q numpy",
            "echo 'export PATH=/opt/venv/bin:$PATH' > /etc/profile.d/venv.sh",
        ),
    ),
    ShellStep(
        name="a user with a home, its caches and shell",
        script=all_of(
            "useradd --create-home --shell /bin/bash --uid 1000 app",
            "mkdir -p /home/app/.cache/huggingface /data /models",
            "chown -R app:app /home/app /data /models",
            "echo 'source /etc/profile' >> /home/app/.bashrc",
        ),
    ),
    ShellStep(name="git config --system", script=all_of(apt("git"), "git config --system --add safe.directory '*'")),
)
