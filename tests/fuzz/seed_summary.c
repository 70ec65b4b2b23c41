/* SPDX-License-Identifier: MIT */
/* Writes the corpus of fuzz_summary: the summaries of the manifests in the corpus, and of a "same" message.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/delta/manifest.h"
#include "engine/store/same_message.h"

static const char *root;

static FILE *create(const char *name, int which)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/summary/%s", root, name);
	file = fopen(path, "wb");
	if (!file || fputc(which, file) == EOF) {
		perror(path);
		exit(1);
	}
	return file;
}

static void put(FILE *file, const void *bytes, size_t len)
{
	if (len > 0 && fwrite(bytes, len, 1, file) != 1) {
		perror("write");
		exit(1);
	}
}

static size_t read_text(const char *name, char *text, size_t size)
{
	char path[4096];
	size_t len;
	FILE *file;

	snprintf(path, sizeof(path), "%s/manifest/%s", root, name);
	file = fopen(path, "rb");
	if (!file) {
		perror(path);
		exit(1);
	}
	len = fread(text, 1, size, file);
	fclose(file);
	return len;
}

static void save_manifest(const char *name)
{
	static struct manifest_summary s;
	static char text[SOSIE_MANIFEST_MAX];
	struct sosie_manifest m;
	struct sosie_err err;
	size_t len = read_text(name, text, sizeof(text));
	FILE *file;

	if (manifest_get(text, len, &m, &err) != 0) {
		fprintf(stderr, "%s: %s\n", name, err.what);
		exit(1);
	}
	memset(&s, 0, sizeof(s));
	manifest_summarise(&m, &s);
	file = create(name, 0);
	put(file, &s, offsetof(struct manifest_summary, volumes));
	put(file, s.volumes, s.volume_count * sizeof(*s.volumes));
	put(file, s.attachments, s.attachment_count * sizeof(*s.attachments));
	put(file, s.parts, s.part_count * sizeof(*s.parts));
	put(file, s.asks, s.ask_count * sizeof(*s.asks));
	fclose(file);
	sosie_manifest_fini(&m);
}

static void save_same(void)
{
	static struct same_summary s = {.has_clock = 1, .count = 2, .at_ms = 1795318020000, .plus_ms = 5};
	FILE *file = create("same", 1);

	snprintf(s.groups[0].group.s, sizeof(s.groups[0].group.s), "erp");
	snprintf(s.groups[1].group.s, sizeof(s.groups[1].group.s), "crm");
	s.groups[1].ago_ms = 700;
	put(file, &s, offsetof(struct same_summary, groups) + 2 * sizeof(*s.groups));
	fclose(file);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: seed_summary CORPUS\n");
		return 2;
	}
	root = argv[1];
	save_manifest("segment");
	save_manifest("compare");
	save_same();
	return 0;
}
