/* SPDX-License-Identifier: MIT */
/*
 * Manifests in three steps, for a standby that lets a disposable child do the first
 * (engine/store/confined.h): JSON to struct (manifest_get), struct checked (manifest_check), struct written
 * again and compared with what came (manifest_is_text). The struct crosses from the child as a summary of
 * fixed size without a pointer.
 *
 * After the third step every byte that came is one that our own writer makes of a struct that was checked: a
 * child cannot have lied about it, and who reads these bytes again may do so in its own process.
 */
#ifndef SOSIE_DELTA_MANIFEST_H
#define SOSIE_DELTA_MANIFEST_H

#include "sosie/segment.h"

#define MANIFEST_ASKS_MAX 16384u
#define MANIFEST_CLOCK_MAX ((int64_t)1 << 53)  /* ms, either way */
#define MANIFEST_BYTES_MAX ((uint64_t)1 << 60) /* of a part, of a counter: 4096 sums do not overflow */

/* As struct sosie_manifest. Hostile in the parent: no enums, no bools, names not yet terminated. */
struct manifest_summary {
	uint32_t kind, consistency;
	uint32_t volume_count, attachment_count, part_count, ask_count;
	uint64_t epoch;
	int64_t cut_ms, standby_at_ms, standby_plus_ms;
	uint64_t plain, data, zero, discard;
	struct sosie_name tenant, group;
	struct sosie_digest parent;
	char software[64];
	struct sosie_manifest_volume volumes[SOSIE_VOLUMES_MAX];
	struct sosie_manifest_attachment attachments[SOSIE_ATTACHMENTS_MAX];
	struct sosie_manifest_part parts[SOSIE_PARTS_MAX];
	struct sosie_manifest_ask asks[MANIFEST_ASKS_MAX];
};

/* The first step: hostile text to a struct with lists within their bounds and terminated names, nothing else
 * checked. Free with sosie_manifest_fini. */
int manifest_get(const void *text, size_t len, struct sosie_manifest *out, struct sosie_err *err);
/* The second: every bound of format.md but those of the text. Lists within their bounds, names terminated.
 * Messages quote nothing of the manifest: it may be a child's that was taken over. */
int manifest_check(const struct sosie_manifest *m, struct sosie_err *err);
/* The third: whether text is exactly what sosie_manifest_text writes of m, which was checked. */
int manifest_is_text(const struct sosie_manifest *m, const void *text, size_t len, struct sosie_err *err);

/* In the child: of a struct that manifest_get made. */
void manifest_summarise(const struct sosie_manifest *m, struct manifest_summary *out);
/* In the parent: the struct of a copy of a summary, judged as if it were random bytes (bounds, then
 * manifest_check). Free with sosie_manifest_fini. */
int manifest_of_summary(const struct manifest_summary *s, struct sosie_manifest *out, struct sosie_err *err);

#endif
