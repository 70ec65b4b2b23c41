/* SPDX-License-Identifier: MIT */
/*
 * NAME.signatures: librsync signatures of what was sent of one volume, one slot for each chunk, for a source
 * that has no view of before (scan). A slot carries a digest over the 256 leaf digests and the length of the
 * content that it was made of: it counts only for a chunk whose digests at the parent point are those. So
 * slots need no order, no flush and no layer: a stale or torn one is no signature.
 *
 * Sparse: a slot that was never written costs nothing. One object, one lock outside.
 */
#ifndef ENGINE_REPLICATE_SIGNATURES_H
#define ENGINE_REPLICATE_SIGNATURES_H

#include "engine/delta/rdiff.h"
#include "sosie/digest.h"
#include "sosie/io.h"

struct signatures;
/* PATH is made when missing; anything that is not such a file is replaced by an empty one. */
int signatures_open(struct sosie_io *io, const char *path, const struct sosie_digest *volume_ctx,
                    struct signatures **out, struct sosie_err *err);
void signatures_close(struct signatures *s); /* NULL is fine */
/* block: the chunk's leaf digests at the parent point; region_len: bytes of the chunk inside the volume then.
 * *len 0: there is none for that content. */
int signatures_get(struct signatures *s, uint64_t chunk, const struct sosie_digest block[SOSIE_FANOUT],
                   size_t region_len, uint8_t sig[RDIFF_SIGNATURE_MAX], size_t *len, struct sosie_err *err);
/* block: digests of the content that sig was made of. */
int signatures_put(struct signatures *s, uint64_t chunk, const struct sosie_digest block[SOSIE_FANOUT],
                   size_t region_len, const uint8_t *sig, size_t len, struct sosie_err *err);

#endif
