"""The conversation of the `receive` errand: a checkpoint goes from the coordinator into a run's folder on a host.

coordinator → host                                        host → coordinator
offer {folder, name, files: {name: bytes}, arrays, manifest}   have {path} if an equal one is there,
                                                          else wants {offsets: {name: bytes}}
part {file, offset} + raw …                               ack {bytes}
publish {}                                                published {path} | refused {why}
                                                          alive {}: hashes are being computed
`arrays` is the SHA-256 of the arrays as the manifest says it, `manifest` that of the manifest itself. A checkpoint
whose arrays are equal is an equal one, whichever host wrote it: times and fingerprints may differ.
"""

from __future__ import annotations

OFFER, HAVE, WANTS = "offer", "have", "wants"
PART, ACK, ALIVE = "part", "ack", "alive"
PUBLISH, PUBLISHED, REFUSED = "publish", "published", "refused"

ALIVE_S = 2.0
PIECE = 1 << 20
WINDOW = 4 << 20
