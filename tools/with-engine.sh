#!/usr/bin/env bash
# Run a command with a Docker engine, Compose v2 and the images of compose.yaml at hand.
#
#     tools/with-engine.sh COMMAND [ARGUMENT ...]
#
# What the machine has is used as it is. What it lacks is installed (Debian, as root: its package docker.io) or built
# (Compose from its Go module). An engine that is started here has its own data and ends with the command; in it, images
# that cannot be pulled are built as stand-ins (standin/README.md). An engine that ran before gets none: its other users
# would take them for the real ones. Exit code 69: no engine can be had, and nothing was run.
set -euo pipefail
cd "$(dirname "$0")/.."

COMPOSE_MODULE=github.com/docker/compose/v2
COMPOSE_VERSION=v2.40.3
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/order-pipeline
ENGINE=/var/lib/order-pipeline-engine
SOCKET=/run/order-pipeline-engine.sock
UNAVAILABLE=69

say() { printf 'containers: %s\n' "$*" >&2; }

quietly() { # run; show what it printed only if it fails
    local log
    log=$(mktemp)
    "$@" > "$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; return 1; }
    rm -f "$log"
}

engine_answers() { timeout 20 docker version --format '{{.Server.Version}}' > /dev/null 2>&1; }

install_engine() {
    command -v dockerd > /dev/null && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
        say "no Docker engine answers, and only root on Debian can have one installed here"
        return 1
    fi
    say "installing Docker's engine from Debian's packages"
    quietly apt-get update || return 1
    DEBIAN_FRONTEND=noninteractive quietly apt-get install -y --no-install-recommends docker.io iptables
}

start_engine() { # one of our own: its data, its socket, its end
    engine_answers && return # the package may have started one
    say "starting an engine"
    mkdir -p "$ENGINE"
    setsid dockerd --host "unix://$SOCKET" --data-root "$ENGINE/data" --exec-root "$ENGINE/run" --pidfile "$ENGINE/pid" \
        > "$ENGINE/log" 2>&1 & # setsid: Ctrl-C is for the command, which still needs the engine to clean up
    engine_pid=$!
    trap 'kill "$engine_pid" 2> /dev/null; wait "$engine_pid" 2> /dev/null || true' EXIT
    export DOCKER_HOST=unix://$SOCKET
    for _ in $(seq 60); do
        engine_answers && return
        kill -0 "$engine_pid" 2> /dev/null || break
        sleep 0.5
    done
    say "the engine does not start; its last words:"
    tail -n 5 "$ENGINE/log" >&2
    return 1
}

have_compose() {
    docker compose version > /dev/null 2>&1 && return
    local plugin=$CACHE/docker-compose-$COMPOSE_VERSION
    [ -x "$plugin" ] || build_compose "$plugin" || return 1
    mkdir -p "$HOME/.docker/cli-plugins" && ln -sf "$plugin" "$HOME/.docker/cli-plugins/docker-compose"
}

build_compose() { # to this path
    command -v go > /dev/null || { say "Docker Compose is missing, and there is no Go to build it with"; return 1; }
    say "building Compose $COMPOSE_VERSION from its Go module"
    local module copy built=1
    module=$(go mod download -json "$COMPOSE_MODULE@$COMPOSE_VERSION" | sed -n 's/^\s*"Dir": "\(.*\)",$/\1/p')
    [ -d "$module" ] || { say "the module cannot be had"; return 1; }
    copy=$(mktemp -d)
    cp -r "$module/." "$copy" && chmod -R u+w "$copy" && mkdir -p "$CACHE" \
        && (cd "$copy" && quietly go build -trimpath \
            -ldflags "-s -w -X $COMPOSE_MODULE/internal.Version=$COMPOSE_VERSION" -o "$1.aside" ./cmd) \
        && mv "$1.aside" "$1" && built=0
    rm -rf "$copy"
    return $built
}

have_images() {
    local name made
    made=$(.venv/bin/python -m tools.standin --made-from)
    for name in $(.venv/bin/python -m tools.standin --list); do
        case $(docker image inspect --format '{{index .Config.Labels "order-pipeline.standin"}}' "$name" 2> /dev/null || echo none) in
            "$made" | "" | "<no value>") continue ;; # up to date, or a real one
        esac
        timeout 300 docker pull --quiet "$name" > /dev/null 2>&1 && continue
        if [ -z "${engine_pid:-}" ]; then
            say "$name cannot be pulled: docker pull $name says why"
            return 1
        fi
        say "$name cannot be pulled: building a stand-in"
        .venv/bin/python -m tools.standin "$name" || exit 1
    done
}

engine_answers || { install_engine && start_engine; } || exit $UNAVAILABLE
have_compose || exit $UNAVAILABLE
docker buildx version > /dev/null 2>&1 || export DOCKER_BUILDKIT=0 # the classic builder, where the other is missing
have_images || exit $UNAVAILABLE
"$@"
