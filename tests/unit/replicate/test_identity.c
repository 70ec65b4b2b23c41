/* SPDX-License-Identifier: MIT */
/* Whether a volume is the one that was recorded: after a mount with another device number, on the filesystems
 * that tell it apart, and from states that do not know as much. */
#include "engine/replicate/internal.h"
#include "tests/support/mounted.h"
#include "tests/unit/replicate/harness.h"

static struct sosie_identity of_file(uint64_t dev, uint32_t generation, uint64_t filesystem, bool xfs)
{
	return (struct sosie_identity){.dev = dev,
	                               .ino = 131,
	                               .detailed = true,
	                               .generation = generation,
	                               .filesystem = filesystem,
	                               .xfs = xfs};
}

static bool same(struct sosie_identity a, struct sosie_identity b)
{
	bool forth = sosie_identity_same(&a, &b);

	assert_int_equal(forth, sosie_identity_same(&b, &a));
	return forth;
}

static void test_identity_by_what_is_known_of_both(void **state)
{
	struct sosie_identity a = of_file(7, 5, 99, false), other = a, old = {.dev = 7, .ino = 131};
	struct sosie_identity device = {.device = true, .serial = "wwn-1"}, second = device;

	(void)state;
	assert_true(same(a, a));
	assert_true(same(a, of_file(8, 5, 99, false)));  /* mounted again */
	assert_false(same(a, of_file(8, 5, 98, false))); /* another filesystem, the same numbers by chance */
	assert_false(same(a, of_file(7, 6, 99, false))); /* the inode was used again */
	assert_false(same(of_file(7, 5, 0, false), of_file(8, 5, 0, false)));
	assert_true(same(of_file(7, 0, 0, false), of_file(7, 0, 0, false)));
	assert_true(same(of_file(7, 5, 0, true), of_file(8, 5, 0, true)));
	assert_false(same(of_file(7, 0, 0, true), of_file(8, 0, 0, true)));
	assert_false(same(of_file(7, 5, 0, true), of_file(8, 5, 0, false)));
	other.ino = 132;
	assert_false(same(a, other));
	assert_true(same(a, old)); /* an older release's: by device number, as it did */
	old.dev = 8;
	assert_false(same(a, old));
	assert_true(same(device, second));
	memcpy(second.serial, "wwn-2", 6);
	assert_false(same(device, second));
	assert_false(same(device, a));
}

static void identify(const char *path, struct sosie_identity *out)
{
	struct sosie_volume v = {.name = {"a"}};
	struct sosie_err err = {0};
	struct sosie_io *io;
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fputs("raw", f) >= 0, 1);
	fclose(f);
	snprintf(v.path, sizeof(v.path), "%s", path);
	must(sosie_io_posix(&io, &err), &err);
	must(sosie_volume_identify(io, &v, out, &err), &err);
	sosie_io_free(io);
}

/* A file's identity holds under another device number, a file put in its place has another one. */
static void check_filesystem(const char *mkfs, unsigned mib)
{
	struct sosie_identity a, b, replaced;
	struct mounted m;
	char path[128];

	assert_true(mounted_up(&m, mkfs, "", mib));
	snprintf(path, sizeof(path), "%s/a.raw", m.dir);
	identify(path, &a);
	identify(path, &b);
	assert_true(a.detailed && same(a, b));
	b.dev++;
	assert_true(same(a, b));
	assert_int_equal(unlink(path), 0);
	sync(); /* btrfs: a transaction, whose number the generation is */
	identify(path, &replaced);
	assert_false(same(a, replaced));
	mounted_down(&m);
}

static void test_identity_on_filesystems_survives_another_device_number(void **state)
{
	static const struct {
		const char *mkfs;
		unsigned mib;
	} list[] = {{"mkfs.ext4 -q -F", 64}, {"mkfs.xfs -q -f", 320}, {"mkfs.btrfs -q -f", 128}};
	unsigned done = 0;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		const char *why = mounted_possible(list[i].mkfs);

		if (why) {
			print_message("%s: %s\n", list[i].mkfs, why);
			continue;
		}
		check_filesystem(list[i].mkfs, list[i].mib);
		done++;
	}
	print_message("%u filesystems\n", done);
	if (done == 0)
		skip();
}

static void edit_state(struct harness *h, const char *member)
{
	char path[160], *text, *at, *end;
	size_t len;

	snprintf(path, sizeof(path), "%s/state.json", h->state_path);
	must(sosie_io_read_file(h->io, path, 1u << 20, &text, &len, &h->err), &h->err);
	at = strstr(text, member);
	assert_non_null(at);
	end = strchr(at, ',');
	if (!end || strchr(at, '}') < end) { /* the last one: with the comma before it */
		end = at + strcspn(at, "}\n");
		while (*at != ',')
			at--;
	} else {
		end++;
	}
	memmove(at, end, strlen(end) + 1);
	must(sosie_io_write_file(h->io, path, text, strlen(text), 0600, &h->err), &h->err);
	free(text);
	snprintf(path, sizeof(path), "%s/state.now", h->state_path);
	unlink(path);
}

static struct harness *with_a_point(void)
{
	struct harness *h = harness_new(1);

	add_volume(h, "a");
	set_size(h, 0, 1u << 20);
	scribble(h, 0, 0, 100000);
	open_replicator(h);
	must(cycle(h), &h->err);
	return h;
}

static void test_state_with_and_without_details_is_read(void **state)
{
	struct harness *h = with_a_point();
	struct sosie_identity first;

	(void)state;
	close_replicator(h);
	open_replicator(h);
	first = h->r->state.volumes.v[0].identity;
	assert_true(first.detailed);
	must(cycle(h), &h->err);
	assert_true(h->result.same);
	assert_int_equal(memcmp(&first, &h->r->state.volumes.v[0].identity, sizeof(first)), 0);
	close_replicator(h);
	edit_state(h, "\"generation\"");
	edit_state(h, "\"filesystem\"");
	edit_state(h, "\"xfs\"");
	open_replicator(h);
	assert_false(h->r->state.volumes.v[0].identity.detailed);
	must(cycle(h), &h->err);
	assert_true(h->result.same && !h->result.compared);
	assert_true(h->r->state.volumes.v[0].identity.detailed); /* from now on */
	close_replicator(h);
	open_replicator(h);
	assert_true(h->r->state.volumes.v[0].identity.detailed);
	harness_free(h);
}

static void test_volume_on_another_filesystem_is_refused_and_changes_nothing(void **state)
{
	struct harness *h = with_a_point();
	struct sosie_identity *id = &h->r->state.volumes.v[0].identity, before = *id;
	uint64_t sent = h->data_bytes;

	(void)state;
	id->dev++;
	id->filesystem = 0xfeed;
	assert_int_equal(cycle(h), -SOSIE_EVOLUME);
	assert_non_null(strstr(h->err.what, "is not the one"));
	*id = before;
	id->generation++;
	assert_int_equal(cycle(h), -SOSIE_EVOLUME);
	assert_int_equal(h->data_bytes, sent);
	*id = before;
	must(cycle(h), &h->err);
	assert_true(h->result.same);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_identity_on_filesystems_survives_another_device_number),
	        cmocka_unit_test(test_identity_by_what_is_known_of_both),
	        cmocka_unit_test(test_state_with_and_without_details_is_read),
	        cmocka_unit_test(test_volume_on_another_filesystem_is_refused_and_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
