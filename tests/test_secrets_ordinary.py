"""What real images say that looks like a credential and is none: it is drafted as it is written, and shown so."""

from __future__ import annotations

import pytest

from klock.secrets.masking import mask
from klock.secrets.references import Redacted, redact, redact_index, redact_variable

VARIABLES = [
    # Fingerprints and hashes, which are public: python, nginx, node, erlang.
    ("GPG_KEY", "A035C8C19219BA821ECEA86B64E628F8D684696D"),
    ("NGINX_GPGKEY", "573BFD6B3D8FBC641079A6ABABF5BD827BD9BF62"),
    ("KEY", "B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8"),
    ("PYTHON_GET_PIP_SHA256", "dfe9fd5c28dc98b5ac17979a953ea550cec37ae1b47a5116007395bfacff2ab9"),
    ("PYTHON_SHA256", "24887b92e2afd4a2ac602419ad4b596372f67ac9b077190f459aba390faf5550"),
    ("REBAR3_DOWNLOAD_SHA256", "391b0eaa2825bb427fef1e55a0d166493059175f57a33b00346b84a20398216c"),
    ("TINI_SIGNATURE", "iQIzBAABCgAdFiEEWVpQ2DHGpMnCZ5mcZ0b4VQ3Wm2w"),
    ("PUBLIC_KEY", "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0123"),
    # URLs.
    ("PYTHON_GET_PIP_URL", "https://github.com/pypa/get-pip/raw/dbf0c85f76fb6e1ab42aa672ffca6f0a675d9ee4/get-pip.py"),
    ("UV_EXTRA_INDEX_URL", "https://download.pytorch.org/whl/cu124"),
    ("PIP_INDEX_URL", "https://pypi.org/simple"),
    ("HOMEPAGE", "https://example.org/?page=2&lang=en&author=me"),
    ("DATABASE_URL", "postgresql://$DB_USER:$DB_PASS@db/app"),
    ("REDIS_URL", "redis://localhost:6379/0"),
    # A word within another word, or before it.
    ("SSH_AUTH_SOCK", "/ssh-agent"),
    ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/user/1000/bus"),
    ("XDG_SESSION_TYPE", "wayland"),
    ("XDG_SESSION_ID", "c2"),
    ("DESKTOP_SESSION", "gnome2"),
    ("SESSION_TIMEOUT", "30"),
    ("SESSION_MANAGER", "local/host:@/tmp/.ICE-unix/1"),
    ("MONKEY_PATCH", "1"),
    ("MONKEY", "abcdef0123456789abcdef"),
    ("KEYBOARD", "us"),
    ("AUTHOR", "Joe Doe 1971 <joe@example.org>"),
    ("AUTH_TYPE", "oauth2"),
    ("SPARK_AUTHENTICATE", "no"),
    ("PASSWORDLESS_SUDO", "true"),
    ("PASSWORDLESS_LOGIN", "user1234"),
    ("COMPASS", "north1"),
    ("BYPASS", "direct1"),
    ("TEXAS", "dallas1"),
    ("PATTERN", "*.py"),
    ("OTP_VERSION", "26.2.5"),
    ("ORACLE_SID", "XE21C1"),
    ("JWT_ALGORITHM", "HS256"),
    ("TOKENIZERS_PARALLELISM", "false"),
    ("MAX_TOKENS", "512"),
    ("KAFKA_KEY_SERIALIZER", "org.apache.kafka.common.serialization.StringSerializer"),
    # Switches, numbers, words, versions.
    ("MYSQL_ALLOW_EMPTY_PASSWORD", "yes"),
    ("ALLOW_EMPTY_PASSWORD", "on"),
    ("USE_AUTH_TOKEN", "true"),
    ("MAX_TOKEN", "512"),
    ("AUTH", "ldap"),
    ("AUTH", "oauth2"),
    ("SESSION", "gnome-xorg"),
    ("SESSION", "v1.2.3-beta4"),
    ("SAS", "9.4"),
    ("LICENSE_KEY", "community"),
    ("SORT_KEY", "created_at"),
    ("CACHE_KEY", "deps-v12-linux-amd64"),
    ("PRIMARY_KEY", "user_id"),
    ("KEYSTORE_PASSWORD", "changeit"),
    ("JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStorePassword=changeit"),
    # A tokenizer's.
    ("PAD_TOKEN", "[PAD]"),
    ("EOS_TOKEN", "</s>"),
    ("BOS_TOKEN", "<|begin_of_text|>"),
    ("UNK_TOKEN", "unk0"),
    # What stands for something else: other variables, files.
    ("HF_TOKEN", "$OTHER_TOKEN"),
    ("HF_TOKEN", ""),
    ("NPM_TOKEN", "{{ npm_token }}"),
    ("POSTGRES_PASSWORD_FILE", "/run/secrets/postgres-passwd1"),
    ("DB_PASSWORD", "/run/secrets/db1"),
    ("GOOGLE_APPLICATION_CREDENTIALS", "/app/key1.json"),
    ("SSL_PRIVATE_KEY", "/etc/ssl/private/server1.key"),
    ("GIT_ASKPASS", "/usr/bin/git-askpass"),
    ("PWD", "/srv/app1"),
    ("OLDPWD", "/srv/app0"),
    ("INIT_PWD", "/srv/app1"),
    ("X509_USER_PROXY", "/tmp/x509up_u1000"),
    ("PATH", "/opt/venv/bin:$PATH"),
]


@pytest.mark.parametrize(("name", "value"), VARIABLES)
def test_an_ordinary_variable_is_drafted_as_it_is(name: str, value: str) -> None:
    assert redact_variable(name, value, {}) == Redacted(text=value)


COMMANDS = [
    "curl -fsSL https://files.pythonhosted.org/packages/aa/x-1.0-py3-none-any.whl#sha256=" + "0123456789abcdef" * 4,
    "curl -fsSL 'https://github.com/org/repo/blob/main/x.tar.gz?raw=true' -o x",
    'curl -sSL "https://keyserver.ubuntu.com/pks/lookup?op=get&search=0xF23C5A6CF475977595C89F51BA6932366A755776"',
    "curl 'https://api.github.com/repos/a/b/releases?per_page=100&page=2'",
    "curl 'https://h/x?author=me&keyboard=us1&monkey=1&tokenizer=bert1&signal=9&sessions=5&auth_type=none1'",
    'curl -u "$USER:$PASS" -u "${USER}:${PASS}" https://h/x',
    "curl -H \"Authorization: Bearer ${HF_TOKEN}\" -H 'Accept: application/json; v=1' https://h/x",
    'curl -H "X-Api-Key: $(cat /run/secrets/key1)" -H "Authorization: $AUTH" https://h',
    "curl -sSLu $USER:$PASS https://h:8443/x1",
    'wget --header "Cookie: oraclelicense=accept-securebackup-cookie" https://download.oracle.com/x1',
    "wget --no-check-certificate https://h/x?version=1.2.3\\&arch=amd64",
    "apt-key adv --keyserver hkp://keyserver.ubuntu.com:80 --recv-keys 0xB1998361219BD9C9",
    'gpg --batch --keyserver hkps://keys.openpgp.org --recv-keys "$GPG_KEY"',
    "key='B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8'; gpg --batch --recv-keys \"$key\"",
    'for key in 4ED778F539E3634C779C87C6D7062848A1AB005C; do gpg --recv-keys "$key"; done',
    "gpg --batch --passphrase '' --quick-gen-key me default default",
    "adduser --disabled-password --gecos '' app1",
    "adduser --disabled-password app1 && useradd -m -p '' joe1 && mkdir -p /home/joe1/.ssh",
    "echo 'joe:$6$salt$hash' | chpasswd -e",
    "ssh-keygen -t ed25519 -N '' -f /root/.ssh/id_ed25519",
    "docker run -p 8080:80 -u 1000:1000 image1",
    "docker build --secret id=token1,src=/run/secrets/token1 .",
    "RUN --mount=type=secret,id=mytoken1 cat /run/secrets/mytoken1",
    "docker login -u me --password-stdin registry1.example < /run/secrets/p1",
    "pip install --index-url https://download.pytorch.org/whl/cu124 torch==2.4.0",
    "pip install token==1.0 secret==2.1.3 pyjwt==2.8.0 passlib==1.7.4 'django-token>=1.0'",
    "git clone https://github.com/org/repo.git && git -C repo checkout 0123456789abcdef0123456789abcdef01234567",
    "git clone git@github.com:org/repo.git && git clone ssh://git@h1/x",
    "git config --global credential.helper store && git config --global user.email me1@example.org",
    "npm config set registry https://registry.npmjs.org/",
    "npm config set //registry.npmjs.org/:_authToken '${NPM_TOKEN}'",
    'echo "//registry.npmjs.org/:_authToken=${NPM_TOKEN}" > ~/.npmrc',
    "sed -i 's/#PermitRootLogin.*/PermitRootLogin yes/; s/PasswordAuthentication yes/PasswordAuthentication no/' f1",
    "sed -i 's/^password=.*/password=/' /etc/app1.conf",
    "echo 'root ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/root1",
    "jupyter lab --ip=0.0.0.0 --no-browser --IdentityProvider.token=''",
    "jupyter notebook --NotebookApp.token= --NotebookApp.password=''",
    "python -c \"AutoTokenizer.from_pretrained('gpt2', use_auth_token=True)\"",
    "python -c \"import os; login(token=os.environ['HF_TOKEN'])\"",
    'python -c "f(token=token2, password=password2)"',
    "python -c \"tok.add_special_tokens({'pad_token': '[PAD]', 'eos_token': 'eos1'})\"",
    "python3 - <<'END'\n"
    "def f(token: str, password: str = '') -> None:\n"
    "    secret = get_secret1()\n"
    '    api_key = os.getenv("API_KEY")\n'
    '    headers = {"Authorization": f"Bearer {token}", "X-Token": token1}\n'
    "    session = requests.Session()\n"
    "    connect(\n        password=password1,\n    )\n"
    "END",
    "cat > x.yaml <<END\nauth: true\ntoken: ${TOKEN}\npassword: required\nsession: 30m\nsecretName: my-secret1\nEND",
    'cat > app.json <<END\n{"type": "password", "name": "token1", "session": {"timeout": 30}, "author": "me1"}\nEND',
    'cat > schema.json <<END\n{"password": "string", "token": "optional"}\nEND',
    "openssl rand -hex 32 > /etc/app/key && openssl enc -aes-256-cbc -pass env:PASSPHRASE1 -in x -out y",
    "keytool -importcert -noprompt -cacerts -storepass changeit -file x.crt",
    "DEBIAN_FRONTEND=noninteractive apt-get install -y tzdata passwd libpam-pwquality",
    "debconf-set-selections <<< 'postfix postfix/main_mailer_type string \"No configuration\"'",
    "mysql -u root -p app1 < dump.sql && mysql -uroot --protocol=tcp -P 3306 -e 'select 1'",
    "mysqladmin ping --silent && psql --no-password -h db app1 && pg_dump -w -h db app1",
    'huggingface-cli download gpt2 --token "$HF_TOKEN" && aws configure set region eu-west-1',
    "tmux new-session -d -s main1 && ffmpeg -y -i in.mp4 -pass 2 out.mp4",
    'export PASSWORD="$(cat /run/secrets/pw1)" TOKEN=`cat /run/secrets/t1`',
    "cosign verify --key cosign.pub --signature x-1.0.sig image1",
    'echo "Enter password: " && echo "token: none1" && read -p "password? " x',
    "make -j4 PASS=1 && ./configure --with-password=no --enable-token --without-session",
    "helm install my-secret ./chart --set image.tag=v1.2.3 && kubectl get secret my-secret-1a2b -o yaml",
    "echo my-token:v1.2.3 registry/api-token:1.0 && cp -p a1 b1",
    "printf 'machine h login %s password %s' $USER $PASS > ~/.netrc",
    "printf 'machine %s login %s password %s\\n' h bob \"$PASS\" > ~/.netrc",
    "printf '[pypi]\\nusername = __token__\\npassword = %s\\n' \"$PYPI_TOKEN\" > ~/.pypirc",
    "printf '[app]\\nname = tokens\\nlevel = debug\\n' > /etc/app.ini",
    "git config credential.helper '!f() { echo username=x; echo password=$GIT_TOKEN; }; f'",
    "git config --global credential.helper 'cache --timeout=3600'",
    "git config --global credential.helper '!aws codecommit credential-helper $@'",
    "echo aGVsbG8gd29ybGQhIQ== | base64 -d > /greeting",  # hello world!!
    "echo eyJuYW1lIjogImFwcCIsICJsZXZlbCI6ICJkZWJ1ZyJ9 | base64 -d > /app.json",  # {"name": "app", "level": "debug"}
    "echo aHR0cHM6Ly9leGFtcGxlLm9yZy9h | base64 -d",  # https://example.org/a
    "echo 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' > integrity",
    "pip install --hash=sha256:" + "0123456789abcdef" * 4 + " x==1.0",
    "cp node_modules/typescript/lib/tsc /usr/local/bin/abcdefghijkl",
    'echo "root:root" | chpasswd && echo "root:$ROOT_PW" | chpasswd',
    "echo root:Docker! | chpasswd",
    'echo "$PASSWORD" | docker login -u me --password-stdin r',
    'echo "$SUDO_PW" | sudo -S true && cat /run/secrets/p | gh auth login --with-token',
    "mysql -e \"CREATE USER 'app'@'%' IDENTIFIED WITH auth_socket\" && mysql -e \"ALTER USER a IDENTIFIED BY '$PW'\"",
    "psql -c \"COMMENT ON COLUMN users.password IS 'the hash'\" && psql -c 'SELECT password FROM users'",
    "ssh-keygen -A && ssh-keygen -q -t rsa -b 4096 -N '' -f /etc/ssh/k && ssh-keygen -y -P '' -f k",
    "unzip -q -o x.zip -d /opt && zip -r -q out.zip dir && 7z x -y a.7z -oout",
    "mongod --fork --port 27017 && mongosh -p --eval 'db.version()'",
    "mount -t cifs -o credentials=/run/secrets/smb,uid=1000 //h/s /mnt && mount -o ro,noexec /dev/sdb1 /mnt",
    "composer config repositories.app vcs https://github.com/a/b && wandb login --relogin",
    "lftp -e 'mirror /pub; quit' https://h && smbclient -N -L //h",
    "cat > s.xml <<END\n<server><username>bob</username><password>${env.PW}</password></server>\nEND",
    "cat > p.xml <<END\n<project><artifactId>token-api</artifactId><version>1.2.3</version></project>\nEND",
    "cat > c.ini <<END\n[auth]\ntoken = ${TOKEN}\npassword =\nuser = bob\nEND",
    'cat > Cargo.toml <<END\n[dependencies]\nsecrecy = "0.8"\npassword-hash = "0.5"\nEND',
    "curl -fsSL https://repo.anaconda.com/miniconda/x.sh && conda config --add channels https://h/t/simple",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_ordinary_command_is_drafted_as_it_is(command: str) -> None:
    assert redact(command, {}, what="the command of run_bash") == Redacted(text=command)


REQUIREMENTS = [
    "--index-url https://download.pytorch.org/whl/cu124 torch==2.4.0",
    "--extra-index-url https://$USER:$PASS@h/simple token==1.0",
    "--find-links https://data.pyg.org/whl/torch-2.4.0+cu124.html torch-scatter",
    "x @ https://h/x-1.0-py3-none-any.whl#sha256=" + "0123456789abcdef" * 4,
    "x @ git+ssh://git@github.com/a/b@0123456789abcdef0123456789abcdef01234567",
    "x @ https://github.com/a/b/archive/v1.0.zip?raw=true",
    'x==1.0 ; python_version < "3.12" --hash=sha256:' + "0123456789abcdef" * 4,
]


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_an_ordinary_requirement_is_drafted_as_it_is(requirement: str) -> None:
    assert redact_index(requirement, {}, what="a requirement") == Redacted(text=requirement)


SHOWN = [
    "Downloading tokenizer.json: 100% 2.3M/2.3M",
    "Get:1 http://deb.debian.org/debian bookworm/main amd64 passwd amd64 1:4.13 [972 kB]",
    "Collecting token==1.0 (from -r requirements.txt (line 3))",
    "session opened for user root(uid=0) by (uid=0)",
    "+ export TOKENIZERS_PARALLELISM=false",
    "SHA256:0123456789abcdef0123456789abcdef key fingerprint",
    "drwxr-xr-x 2 root root 4096 May  6 07:08 session",
    "12:30:45 token: ok, 3 passed in 0.12s",
]


@pytest.mark.parametrize("line", SHOWN)
def test_an_ordinary_line_of_output_is_shown(line: str) -> None:
    assert mask(line) == line
