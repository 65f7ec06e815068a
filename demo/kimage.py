"""The demo's environment: a Debian base, Debian and PyPI packages, a variable, local files and a shell step."""

import klock as kt

image = (
    kt.images.from_debian("bookworm", ["python3"])
    .apt_install(["jq"])
    .pip_install(["humanize>=4.9", "-r requirements.txt"])
    .set_env_vars({"APP_HOME": "/srv/app", "APP_DATA": "$APP_HOME/data"})
    .rsync("./app", "/srv/app", contents=True, filter_options="--exclude='*.log'")
    .rsync("./data", "/srv/app")
    .run_bash("jq --sort-keys '.readings |= sort_by(.celsius)' $APP_DATA/readings.json > $APP_HOME/sorted.json")
)
