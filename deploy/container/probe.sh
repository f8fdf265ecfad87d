#!/bin/sh
# Is the Triton of this container well? `probe.sh live|ready|golden`; what is wrong goes to stderr, and so to the events.
#
# live:   the server answers at all. It says so also without any model.
# ready:  the ensemble of release $RELEASE can be asked. The server's own ready stays 200 after a model was unloaded, and
#         its gRPC health check ignores the name of the service: so one model and one version is asked for.
# golden: ready, and the ensemble answers what the release answered when it was made, as near as its gate allows, to each
#         input in $MODELS/tag_recommender/$RELEASE/probe, which `python -m export probe` writes.
#
# Over HTTP on the loopback address. A gRPC probe of the kubelet has no client certificate, and here is no gRPC client.
set -eu

url=${PROBE_URL:-http://127.0.0.1:8000}/v2
ensemble=models/tag_recommender/versions/$RELEASE

ask() {
    curl --silent --show-error --fail --max-time "${PROBE_TIMEOUT_S:-5}" "$@"
}

ready() {
    ask "$url/$ensemble/ready" || { echo "release $RELEASE of tag_recommender is not ready" >&2; return 1; }
}

golden() {
    folder=${MODELS:-/models}/tag_recommender/$RELEASE/probe
    [ -f "$folder/allowed" ] || { echo "no golden requests in $folder: write them with the release" >&2; return 1; }
    for request in "$folder"/*.request; do
        # Name of the file: number of the input, bytes of the request's JSON.
        name=$(basename "$request" .request)
        answer=$(ask --header "Inference-Header-Content-Length: ${name#*-}" --data-binary "@$request" "$url/$ensemble/infer")
        echo "$answer" | sed -n 's/.*"data":\[\([^]]*\)\].*/\1/p' | tr , '\n' | paste - "$folder/$name.tags" \
            | awk -v allowed="$(cat "$folder/allowed")" '
                # To awk, NaN is as near as anything.
                NF != 2 || $1 !~ /^[-+.0-9eE]+$/ { wrong++ }
                { difference = $1 - $2; if (difference > allowed || -difference > allowed) wrong++ }
                END { exit wrong > 0 || NR == 0 }' \
            || { echo "golden input ${name%-*}: release $RELEASE answers otherwise than when it was made" >&2; return 1; }
    done
}

case $1 in
    live) ask "$url/health/live" ;;
    ready) ready ;;
    golden)
        ready
        golden
        ;;
    *) echo "probe.sh live|ready|golden" >&2; exit 2 ;;
esac
