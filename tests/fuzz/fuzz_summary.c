/* SPDX-License-Identifier: MIT */
/*
 * What a child that hostile bytes have taken over may leave in the area: any bytes as the summary of a
 * manifest or of a "same" message. What is taken can be written and is taken again by the parser; nothing
 * crashes.
 *
 * The input: one byte (0: manifest, else "same"), the summary's fields before its lists, then for each list
 * in turn as many items as the input has of those that its count says; the rest of the lists is zeros.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/delta/manifest.h"
#include "engine/store/same_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static union {
	struct manifest_summary manifest;
	struct same_summary same;
} f;

struct input {
	const uint8_t *data;
	size_t size;
};

static void take(struct input *in, void *dst, size_t len)
{
	size_t n = len < in->size ? len : in->size;

	memcpy(dst, in->data, n);
	in->data += n;
	in->size -= n;
}

static void take_list(struct input *in, void *dst, uint64_t count, uint64_t max, size_t item)
{
	take(in, dst, (size_t)(count < max ? count : max) * item);
}

static void judge_manifest(struct input *in)
{
	struct manifest_summary *s = &f.manifest;
	struct sosie_manifest m, again;
	struct sosie_err err;
	char *text = NULL;
	size_t len = 0;

	take(in, s, offsetof(struct manifest_summary, volumes));
	take_list(in, s->volumes, s->volume_count, SOSIE_VOLUMES_MAX, sizeof(*s->volumes));
	take_list(in, s->attachments, s->attachment_count, SOSIE_ATTACHMENTS_MAX, sizeof(*s->attachments));
	take_list(in, s->parts, s->part_count, SOSIE_PARTS_MAX, sizeof(*s->parts));
	take_list(in, s->asks, s->ask_count, MANIFEST_ASKS_MAX, sizeof(*s->asks));
	if (manifest_of_summary(s, &m, &err) != 0)
		return;
	if (sosie_manifest_text(&m, &text, &len, &err) == 0) {
		if (manifest_is_text(&m, text, len, &err) != 0 && err.code != SOSIE_ENOMEM)
			abort();
		if (sosie_manifest_parse(text, len, &again, &err) != 0 && err.code != SOSIE_ENOMEM)
			abort();
		sosie_manifest_fini(&again);
	} else if (err.code != SOSIE_ENOMEM && len <= SOSIE_MANIFEST_MAX) {
		abort(); /* what was judged good is good for the parser too, unless it is too long */
	}
	free(text);
	sosie_manifest_fini(&m);
}

static void judge_same(struct input *in)
{
	struct same_summary *s = &f.same;
	struct same_said said;
	struct sosie_err err;

	take(in, s, offsetof(struct same_summary, groups));
	take_list(in, s->groups, s->count, SAME_GROUPS, sizeof(*s->groups));
	if (same_judge(s, &said, &err) == 0 && said.count > s->count)
		abort();
	for (unsigned i = 0; i < said.count; i++) {
		struct sosie_name name;

		if (sosie_name_set(&name, SOSIE_NAME_GROUP, said.groups[i].group.s, &err) != 0)
			abort();
	}
	free(said.groups);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t which = 0;

	memset(&f, 0, sizeof(f));
	take(&in, &which, 1);
	if (which == 0)
		judge_manifest(&in);
	else
		judge_same(&in);
	return 0;
}
