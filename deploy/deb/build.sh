#!/bin/sh
# Builds the Debian package of the relay from a checkout in which `npm ci` was run.
#   deploy/deb/build.sh [--node FILE] [--app DIR] [--fast] DIRECTORY
# Without --node the package depends on nodejs (>= 24), which Debian 12 and 13 do not have: NodeSource does.
# With --node it brings that Node binary along, for this machine's architecture; its security updates are then yours.
# --app takes the program as an earlier package has it, unpacked (its usr/lib/carrier). --fast does not compress: for tests.
# Prints the path of the package.
set -eu
umask 022

node_binary=
ready_app=
compression=-Zxz
while [ $# -gt 1 ]; do
  case "$1" in
    --node) node_binary=$2; shift 2 ;;
    --app) ready_app=$2; shift 2 ;;
    --fast) compression=-Znone; shift ;;
    *) echo "build.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
[ $# -eq 1 ] || { echo 'usage: build.sh [--node FILE] [--app DIR] [--fast] DIRECTORY' >&2; exit 2; }
mkdir -p "$1"
output=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=$(node -p 'require(process.argv[1]).version' "$root/package.json")
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 0755 "$stage"

# the program
app=$stage/usr/lib/carrier
mkdir -p "$app/bin"
if [ -n "$ready_app" ]; then
  cp -R "$ready_app/." "$app/"
else
  cp "$root/package.json" "$root/package-lock.json" "$app/"
  (cd "$app" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --prefer-offline --silent)
  rm "$app/package-lock.json"
  node "$root/node_modules/typescript/bin/tsc" -p "$root/tsconfig.build.json" --outDir "$app/dist" --declaration false --declarationMap false --sourceMap false
fi
install -m 0755 "$root/bin/carrier-bootstrap.js" "$app/bin/"
if [ -n "$node_binary" ]; then
  install -D -m 0755 "$node_binary" "$app/node/bin/node"
  run=/usr/lib/carrier/node/bin/node
  architecture=$(dpkg --print-architecture)
  depends='libc6, libstdc++6, libgcc-s1, libatomic1'
else
  run=/usr/bin/node
  architecture=all
  depends='nodejs (>= 24)'
fi
mkdir -p "$stage/usr/bin"
printf '#!/bin/sh\nexec %s /usr/lib/carrier/bin/carrier-bootstrap.js "$@"\n' "$run" > "$stage/usr/bin/carrier-bootstrap"
chmod 0755 "$stage/usr/bin/carrier-bootstrap"

# what the administrator sees
install -D -m 0644 "$root/deploy/carrier-bootstrap.toml" "$stage/etc/carrier-bootstrap.toml"
mkdir -p "$stage/usr/lib/systemd/system" "$stage/usr/share/doc/carrier-bootstrap"
sed -e '1,/^\[Unit\]/{/^#/d}' -e 's|^ExecStart=/usr/local/bin/|ExecStart=/usr/bin/|' "$root/deploy/carrier-bootstrap.service" > "$stage/usr/lib/systemd/system/carrier-bootstrap.service"
install -m 0644 "$root/deploy/GUIDE.md" "$stage/usr/share/doc/carrier-bootstrap/"
cat "$root/LICENSE" "$root/LICENSE-MIT" "$root/LICENSE-APACHE" > "$stage/usr/share/doc/carrier-bootstrap/copyright"

# what dpkg wants
mkdir "$stage/DEBIAN"
install -m 0755 "$here/postinst" "$here/prerm" "$here/postrm" "$stage/DEBIAN/"
echo /etc/carrier-bootstrap.toml > "$stage/DEBIAN/conffiles"
cat > "$stage/DEBIAN/control" <<CONTROL
Package: carrier-bootstrap
Version: $version
Architecture: $architecture
Maintainer: Carrier contributors <carrier@localhost>
Depends: $depends
Installed-Size: $(du -sk "$stage/usr" | cut -f1)
Section: net
Priority: optional
Description: relay and DHT server for Carrier nodes
 Lets devices behind NAT reach each other: circuits and splices that carry
 end-to-end encrypted bytes, and a private DHT. The relay cannot read them.
CONTROL
chmod -R u=rwX,go=rX "$stage/usr" "$stage/etc"
file=$output/carrier-bootstrap_${version}_${architecture}.deb
dpkg-deb --root-owner-group "$compression" --build "$stage" "$file" > /dev/null
echo "$file"
