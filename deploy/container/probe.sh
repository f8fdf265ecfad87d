#!/bin/sh
# Check the Triton in this container: `probe.sh live|ready|golden|signed`. Problems go to stderr, and so to the pod's events.
#
# live:   the server answers at all, even if it has no models.
# ready:  the ensemble of release $RELEASE is ready. The server's own readiness stays 200 after a model is unloaded, and
#         its gRPC health check ignores the service name, so this asks for one model and one version.
# golden: ready, and the ensemble's answers match those of the release's golden set, within its gate's tolerance, for each
#         input in $MODELS/tag_recommender/$RELEASE/probe, which `python -m export probe` writes.
# signed: the files in $MODELS are the ones that `python -m export sign` signed for the public key in the file $PUBLIC_KEY,
#         and there are no others. It asks no server: it runs before Triton does, which loads libraries among them.
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

refuse() {
    echo "the release in $models is refused: $1" >&2
    exit 1
}

signed() {
    models=${MODELS:-/models}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    [ -f "$models/release.sig" ] || refuse "it is not signed"
    # A Sigstore bundle: what was signed is the payload behind the header of DSSE's pre-authentication encoding.
    for field in payload sig; do
        sed -n "s|.*\"$field\": *\"\([A-Za-z0-9+/=]*\)\".*|\1|p" "$models/release.sig" | base64 -d > "$work/$field" \
            || refuse "its signature is damaged"
    done
    printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c < "$work/payload")" | cat - "$work/payload" > "$work/text"
    # The digest belongs to the key's curve: P-256, P-384 or P-521.
    for digest in sha256 sha384 sha512; do
        if openssl dgst "-$digest" -verify "$PUBLIC_KEY" -signature "$work/sig" "$work/text" > "$work/said" 2>&1; then
            break
        fi
        [ "$digest" != sha512 ] || refuse "it was not signed with the key of $PUBLIC_KEY"
    done
    grep -q '"predicateType": "https://model_signing/signature/v1.0"' "$work/payload" \
        || refuse "its signature is of something else"
    awk -F '"' '
        $2 == "digest" && NF >= 5 { digest = $4 }
        $2 == "name" { name = $4 }
        /}/ { if (digest != "" && name != "") print digest "  " name; digest = name = "" }' "$work/payload" > "$work/sums"
    cd "$models"
    find . ! -type d ! -path ./release.sig ! -path ./tag_recommender/.lock | sed 's|^\./||' | sort > "$work/there"
    sed 's|^[0-9a-f]*  ||' "$work/sums" | sort | diff - "$work/there" > "$work/others" \
        || refuse "$(tr '\n' ' ' < "$work/others" | tr -cd '[:print:]' | cut -c 1-500) (<: is missing, >: was not signed)"
    [ -z "$(find . -type l)" ] || refuse "it has links"
    sha256sum --check --strict --quiet "$work/sums" >&2 || refuse "it has changed"
}

case $1 in
    live) ask "$url/health/live" ;;
    ready) ready ;;
    golden)
        ready
        golden
        ;;
    signed) signed ;;
    *) echo "probe.sh live|ready|golden|signed" >&2; exit 2 ;;
esac
