/* SPDX-License-Identifier: MIT */
/*
 * zstd, confined (docs/format.md, "Segment"; frame header: RFC 8878, 3.1.1.1). The frame header is read here
 * and not by the library: its stable interface tells neither window nor reserved bits, and its limit on
 * windows does not hold where a frame is decoded in one go.
 */
#include <assert.h>
#include <stdlib.h>

#include <zstd.h>
#include <zstd_errors.h>

#include "engine/delta/zstd.h"
#include "sosie/bytes.h"

#define PATCH_LEVEL_MIN 3

struct zstd_packer {
	ZSTD_CCtx *ctx;
	int level;
};

struct zstd_unpacker {
	ZSTD_DCtx *ctx;
};

/* --- packing
 * --------------------------------------------------------------------------------------------------- */

/* 0 is zstd's name for its default, which may change. */
static bool level_possible(int level)
{
	return level >= -7 && level <= 19 && level != 0;
}

int zstd_packer_new(int level, struct zstd_packer **out, struct sosie_err *err)
{
	struct zstd_packer *p = malloc(sizeof(*p));

	*out = NULL;
	if (!level_possible(level)) {
		free(p);
		return sosie_err_set(err, SOSIE_ECONFIG, "zstd level %d: -7 to -1 and 1 to 19 are possible",
		                     level);
	}
	if (p)
		*p = (struct zstd_packer){.ctx = ZSTD_createCCtx(), .level = level};
	if (!p || !p->ctx) {
		free(p);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a zstd encoder");
	}
	*out = p;
	return 0;
}

void zstd_packer_level(struct zstd_packer *p, int level)
{
	assert(level_possible(level));
	p->level = level;
}

void zstd_packer_free(struct zstd_packer *p)
{
	if (!p)
		return;
	ZSTD_freeCCtx(p->ctx);
	free(p);
}

static void set(struct zstd_packer *p, size_t *rc, ZSTD_cParameter what, int value)
{
	if (!ZSTD_isError(*rc))
		*rc = ZSTD_CCtx_setParameter(p->ctx, what, value);
}

static size_t set_up(struct zstd_packer *p, int level, int window_log)
{
	size_t rc = ZSTD_CCtx_reset(p->ctx, ZSTD_reset_session_and_parameters);

	set(p, &rc, ZSTD_c_compressionLevel, level);
	set(p, &rc, ZSTD_c_windowLog, window_log);
	set(p, &rc, ZSTD_c_contentSizeFlag, 1);
	set(p, &rc, ZSTD_c_checksumFlag, 0);
	set(p, &rc, ZSTD_c_dictIDFlag, 0);
	return rc;
}

/*
 * A patch's matches lie one whole content back. Levels below 3 forget the prefix before they come to it (1
 * MiB of SQLite pages of which each has 100 new bytes, level 1: 58 %; level 3: 2.1 %), levels 5 to 8 do with
 * their own tables (noise: 5.6 %, with these 2.6 %). zstd makes the tables smaller again for a small content.
 */
static size_t set_up_patch(struct zstd_packer *p)
{
	int level = p->level < PATCH_LEVEL_MIN ? PATCH_LEVEL_MIN : p->level;
	size_t rc = set_up(p, level, ZSTD_PATCH_WINDOW_LOG);

	set(p, &rc, ZSTD_c_hashLog, level < 5 ? 18 : 21);
	set(p, &rc, ZSTD_c_chainLog, level < 5 ? 18 : 21);
	return rc;
}

/* rc: of the set-up. */
static int pack(struct zstd_packer *p, size_t rc, const void *plain, size_t plain_len, void *dst, size_t room,
                size_t *len, struct sosie_err *err)
{
	*len = 0;
	if (!ZSTD_isError(rc))
		rc = ZSTD_compress2(p->ctx, dst, room, plain, plain_len);
	if (!ZSTD_isError(rc)) {
		*len = rc;
		return 0;
	}
	switch (ZSTD_getErrorCode(rc)) {
	case ZSTD_error_dstSize_tooSmall:
		return 0;
	case ZSTD_error_memory_allocation:
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for zstd at level %d", p->level);
	default:
		return sosie_err_set(err, SOSIE_EINTERNAL, "zstd cannot encode: %s", ZSTD_getErrorName(rc));
	}
}

int zstd_pack(struct zstd_packer *p, const void *plain, size_t plain_len, void *dst, size_t room, size_t *len,
              struct sosie_err *err)
{
	return pack(p, set_up(p, p->level, ZSTD_FRAME_WINDOW_LOG), plain, plain_len, dst, room, len, err);
}

int zstd_pack_patch(struct zstd_packer *p, const void *plain, const void *old, size_t plain_len, void *dst,
                    size_t room, size_t *len, struct sosie_err *err)
{
	size_t rc = set_up_patch(p);

	if (!ZSTD_isError(rc))
		rc = ZSTD_CCtx_refPrefix(p->ctx, old, plain_len);
	return pack(p, rc, plain, plain_len, dst, room, len, err);
}

/* --- unpacking
 * ------------------------------------------------------------------------------------------------- */

int zstd_unpacker_new(struct zstd_unpacker **out, struct sosie_err *err)
{
	struct zstd_unpacker *u = malloc(sizeof(*u));

	*out = NULL;
	if (u)
		u->ctx = ZSTD_createDCtx();
	if (!u || !u->ctx) {
		free(u);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a zstd decoder");
	}
	*out = u;
	return 0;
}

void zstd_unpacker_free(struct zstd_unpacker *u)
{
	if (!u)
		return;
	ZSTD_freeDCtx(u->ctx);
	free(u);
}

struct frame_header {
	uint64_t window, content;
};

static uint64_t content_size(struct sosie_reader *r, unsigned flag)
{
	switch (flag) {
	case 0:
		return sosie_get_u8(r);
	case 1:
		return 256u + sosie_get_u16(r);
	case 2:
		return sosie_get_u32(r);
	default:
		return sosie_get_u64(r);
	}
}

static int read_frame_header(const void *frame, size_t len, struct frame_header *h, struct sosie_err *err)
{
	struct sosie_reader r;
	uint32_t magic;
	unsigned flags, single;

	sosie_reader_init(&r, frame, len);
	magic = sosie_get_u32(&r);
	flags = sosie_get_u8(&r);
	single = flags >> 5 & 1;
	if (r.failed || magic != ZSTD_MAGICNUMBER)
		return sosie_err_set(err, SOSIE_ECORRUPT, "payload is not a zstd frame");
	if (flags & 0x1b) /* dictionary id (2 bits), reserved, unused */
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "zstd frame asks for a dictionary or has a reserved bit set");
	if (!single && flags >> 6 == 0)
		return sosie_err_set(err, SOSIE_ECORRUPT, "zstd frame does not say its content size");
	h->window = 0;
	if (!single) {
		unsigned descriptor = sosie_get_u8(&r);
		uint64_t base = UINT64_C(1) << (10 + (descriptor >> 3));

		h->window = base + base / 8 * (descriptor & 7);
	}
	h->content = content_size(&r, flags >> 6);
	if (single)
		h->window = h->content;
	return r.failed ? sosie_err_set(err, SOSIE_ECORRUPT, "zstd frame ends inside its header") : 0;
}

/* One frame, whole, with nothing behind it; *content: what it says to hold. */
static int check_frame(const void *frame, size_t len, unsigned window_log, uint64_t *content,
                       struct sosie_err *err)
{
	struct frame_header h = {0};
	size_t whole;
	int rc = read_frame_header(frame, len, &h, err);

	if (rc != 0)
		return rc;
	*content = h.content;
	if (h.window > UINT64_C(1) << window_log)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "zstd frame wants a window of %llu bytes: at most %u MiB",
		                     (unsigned long long)h.window, 1u << (window_log - 20));
	whole = ZSTD_findFrameCompressedSize(frame, len);
	if (ZSTD_isError(whole))
		return sosie_err_set(err, SOSIE_ECORRUPT, "zstd frame is damaged or cut short");
	if (whole != len)
		return sosie_err_set(err, SOSIE_ECORRUPT, "%zu bytes stand behind the zstd frame",
		                     len - whole);
	return 0;
}

static int check_content(uint64_t content, size_t plain_len, struct sosie_err *err)
{
	if (content != plain_len)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "zstd frame says %llu bytes of content, its record %zu",
		                     (unsigned long long)content, plain_len);
	return 0;
}

/* A frame that was checked; old: its prefix of plain_len bytes, or NULL. */
static int unpack(struct zstd_unpacker *u, const void *frame, size_t len, unsigned window_log,
                  const void *old, void *dst, size_t plain_len, struct sosie_err *err)
{
	size_t rc = ZSTD_DCtx_reset(u->ctx, ZSTD_reset_session_and_parameters);

	if (!ZSTD_isError(rc))
		rc = ZSTD_DCtx_setParameter(u->ctx, ZSTD_d_windowLogMax, (int)window_log);
	if (!ZSTD_isError(rc) && old)
		rc = ZSTD_DCtx_refPrefix(u->ctx, old, plain_len);
	if (!ZSTD_isError(rc))
		rc = ZSTD_decompressDCtx(u->ctx, dst, plain_len, frame, len);
	if (ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to decode a zstd frame");
	if (ZSTD_isError(rc))
		return sosie_err_set(err, SOSIE_ECORRUPT, "zstd frame is damaged: %s", ZSTD_getErrorName(rc));
	if (rc != plain_len)
		return sosie_err_set(err, SOSIE_ECORRUPT, "zstd frame holds %zu bytes, its record says %zu",
		                     rc, plain_len);
	return 0;
}

int zstd_unpack(struct zstd_unpacker *u, const void *frame, size_t len, void *dst, size_t plain_len,
                struct sosie_err *err)
{
	uint64_t content;
	int rc = check_frame(frame, len, ZSTD_FRAME_WINDOW_LOG, &content, err);

	if (rc == 0)
		rc = check_content(content, plain_len, err);
	return rc ? rc : unpack(u, frame, len, ZSTD_FRAME_WINDOW_LOG, NULL, dst, plain_len, err);
}

int zstd_unpack_patch(struct zstd_unpacker *u, const void *frame, size_t len, const void *old, void *dst,
                      size_t plain_len, struct sosie_err *err)
{
	uint64_t content;
	int rc = check_frame(frame, len, ZSTD_PATCH_WINDOW_LOG, &content, err);

	if (rc == 0)
		rc = check_content(content, plain_len, err);
	return rc ? rc : unpack(u, frame, len, ZSTD_PATCH_WINDOW_LOG, old, dst, plain_len, err);
}

int zstd_unpack_upto(struct zstd_unpacker *u, const void *frame, size_t len, void *dst, size_t room,
                     size_t *got, struct sosie_err *err)
{
	uint64_t content;
	int rc = check_frame(frame, len, ZSTD_FRAME_WINDOW_LOG, &content, err);

	*got = 0;
	if (rc == 0 && (content == 0 || content > room))
		rc = sosie_err_set(err, SOSIE_ECORRUPT,
		                   "zstd frame says %llu bytes of content: 1 to %zu are possible",
		                   (unsigned long long)content, room);
	if (rc == 0)
		rc = unpack(u, frame, len, ZSTD_FRAME_WINDOW_LOG, NULL, dst, (size_t)content, err);
	*got = rc == 0 ? (size_t)content : 0;
	return rc;
}
