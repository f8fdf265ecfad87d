#!/bin/sh
# Check the Triton in this container: `probe.sh live|ready|golden`. Problems go to stderr, and so to the pod's events.
#
# live:   the server answers at all, even if it has no models.
# ready:  the ensemble of release $RELEASE is ready. The server's own readiness stays 200 after a model is unloaded, and
#         its gRPC health check ignores the service name, so this asks for one model and one version.
# golden: ready, and the ensemble's answers match those of the release's golden set, within its gate's tolerance, for each
#         input in $MODELS/tag_recommender/$RELEASE/probe, which `python -m export probe` writes.
#
# The probes use HTTP on loopback: the kubelet's gRPC probe has no client certificate, and the image has no gRPC client.
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
        # The file's name: the input's number, then the size of the request's JSON in bytes.
        name=$(basename "$request" .request)
        answer=$(ask --header "Inference-Header-Content-Length: ${name#*-}" --data-binary "@$request" "$url/$ensemble/infer")
        echo "$answer" | sed -n 's/.*"data":\[\([^]]*\)\].*/\1/p' | tr , '\n' | paste - "$folder/$name.tags" \
            | awk -v allowed="$(cat "$folder/allowed")" '
                # awk finds no difference to NaN, so refuse it here.
                NF != 2 || $1 !~ /^[-+.0-9eE]+$/ { wrong++ }
                { difference = $1 - $2; if (difference > allowed || -difference > allowed) wrong++ }
                END { exit wrong > 0 || NR == 0 }' \
            || { echo "golden input ${name%-*}: release $RELEASE answers differently than when it was made" >&2; return 1; }
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
