/* SPDX-License-Identifier: MIT */
/*
 * What records need of zstd, over its stable interface; only zstd.c includes the library's
 * headers. One object belongs to one thread; the context is reset for each call, so that nothing of one
 * record reaches the next.
 */
#ifndef SOSIE_DELTA_ZSTD_H
#define SOSIE_DELTA_ZSTD_H

#include "sosie/err.h"

#define ZSTD_FRAME_WINDOW_LOG 20 /* windows of at most 1 MiB, written and read */
#define ZSTD_PATCH_WINDOW_LOG 21 /* of patches: content and prefix of at most 1 MiB each */

struct zstd_packer;
struct zstd_unpacker;

int zstd_packer_new(int level, struct zstd_packer **out, struct sosie_err *err);
/* From the next frame on; one that zstd_packer_new takes. */
void zstd_packer_level(struct zstd_packer *p, int level);
void zstd_packer_free(struct zstd_packer *p);
/* One frame with content size of at most room bytes; *len = 0 when it would need more. */
int zstd_pack(struct zstd_packer *p, const void *plain, size_t plain_len, void *dst, size_t room, size_t *len,
              struct sosie_err *err);

/* The same with old, of plain_len bytes too, as prefix; never at a level that does not reach back that far.
 */
int zstd_pack_patch(struct zstd_packer *p, const void *plain, const void *old, size_t plain_len, void *dst,
                    size_t room, size_t *len, struct sosie_err *err);

int zstd_unpacker_new(struct zstd_unpacker **out, struct sosie_err *err);
void zstd_unpacker_free(struct zstd_unpacker *u);
/*
 * Takes exactly one frame that says plain_len itself, has a window of at most 1 MiB, no dictionary, no
 * reserved bit set and nothing behind it; writes exactly plain_len bytes to dst. SOSIE_ECORRUPT otherwise;
 * dst may then hold part of it. Allocates nothing.
 */
int zstd_unpack(struct zstd_unpacker *u, const void *frame, size_t len, void *dst, size_t plain_len,
                struct sosie_err *err);
/* The same for a frame made with old as prefix, window at most 2 MiB. zstd allocates some 30 KiB for the
 * prefix. */
int zstd_unpack_patch(struct zstd_unpacker *u, const void *frame, size_t len, const void *old, void *dst,
                      size_t plain_len, struct sosie_err *err);
/* As zstd_unpack, for content of 1 to room bytes; *got: how many. */
int zstd_unpack_upto(struct zstd_unpacker *u, const void *frame, size_t len, void *dst, size_t room,
                     size_t *got, struct sosie_err *err);

#endif
