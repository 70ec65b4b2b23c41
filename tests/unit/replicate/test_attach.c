/* SPDX-License-Identifier: MIT */
/* What lies in a folder of attachments and cannot travel is left out with one warning; what the operator
 * named himself and cannot travel is an error. */
#include <dirent.h>

#include "sosie/log.h"
#include "tests/unit/replicate/harness.h"

#define IN_ALL SOSIE_ATTACHMENTS_MAX

static struct harness *with_folders(const char *const *list, unsigned count)
{
	struct harness *h = harness_new(1);
	char path[128];

	add_volume(h, "a");
	set_size(h, 0, 1u << 20);
	for (unsigned i = 1; i <= 2; i++) {
		snprintf(path, sizeof(path), "%s/f%u", h->dir, i);
		must(sosie_io_mkdir(h->io, path, 0700, &h->err), &h->err);
	}
	h->o.attachments = list;
	h->o.attachment_count = count;
	return h;
}

static void put(struct harness *h, const char *name, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", h->dir, name);
	must(sosie_io_write_file(h->io, path, text, strlen(text), 0600, &h->err), &h->err);
}

/* One cycle with standard error in a file: how often a warning of files left out is in it; the text in said.
 */
static unsigned warnings(struct harness *h, int *rc, char *said, size_t size)
{
	FILE *log = tmpfile();
	int kept = dup(STDERR_FILENO);
	unsigned n = 0;

	assert_true(log && kept >= 0);
	assert_true(dup2(fileno(log), STDERR_FILENO) >= 0);
	*rc = cycle(h);
	assert_true(dup2(kept, STDERR_FILENO) >= 0);
	close(kept);
	ssize_t len = pread(fileno(log), said, size - 1, 0);
	assert_true(len >= 0);
	said[len] = '\0';
	fclose(log);
	for (const char *at = said; (at = strstr(at, "are left out")); at++)
		n++;
	return n;
}

/* The attachments of a point, as export makes them: how many; wanted names one and what is in it. */
static unsigned exported(struct harness *h, uint64_t point, const char *wanted, const char *content)
{
	struct sosie_image *images;
	struct sosie_group *g;
	char out[128], path[256], text[64] = "";
	unsigned count, n = 0;

	must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
	assert_int_equal(sosie_group_points(g), point);
	snprintf(out, sizeof(out), "%s/export", h->dir);
	must(sosie_group_export(g, point, out, NULL, &images, &count, &h->err), &h->err);
	free(images);
	sosie_group_close(g);
	snprintf(path, sizeof(path), "%s/attachments", out);
	DIR *d = opendir(path);
	assert_non_null(d);
	for (const struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	snprintf(path, sizeof(path), "%s/attachments/%s", out, wanted);
	FILE *f = fopen(path, "re");
	if (!f)
		fail_msg("%s did not travel", wanted);
	assert_true(fgets(text, sizeof(text), f) == text);
	assert_string_equal(text, content);
	fclose(f);
	must(sosie_io_remove_tree(h->io, out, &h->err), &h->err);
	return n;
}

static void test_attach_unfit_names_in_folder_are_left_out_with_one_warning(void **state)
{
	char folder[128], said[4096];
	const char *const list[] = {folder};
	struct harness *h = with_folders(list, 1);
	int rc;

	(void)state;
	snprintf(folder, sizeof(folder), "%s/f1", h->dir);
	put(h, "f1/vm.xml", "one");
	put(h, "f1/vm.xml~", "old");
	put(h, "f1/.hidden", "x");
	put(h, "f1/\033[31mred", "x");
	open_replicator(h);
	assert_int_equal(warnings(h, &rc, said, sizeof(said)), 1);
	must(rc, &h->err);
	assert_non_null(strstr(said, "acme/erp: 3 files"));
	assert_null(strchr(said, '\033'));
	assert_int_equal(exported(h, 1, "vm.xml", "one"), 1);
	/* Measured anew as one has changed, but those left out are the same: nothing is said. */
	put(h, "f1/vm.xml", "second");
	assert_int_equal(warnings(h, &rc, said, sizeof(said)), 0);
	must(rc, &h->err);
	assert_int_equal(exported(h, 2, "vm.xml", "second"), 1);
	put(h, "f1/other~", "x");
	assert_int_equal(warnings(h, &rc, said, sizeof(said)), 1);
	must(rc, &h->err);
	assert_non_null(strstr(said, "4 files"));
	harness_free(h);
}

static void test_attach_name_twice_in_folders_first_travels(void **state)
{
	char f1[128], f2[128], named[128], said[4096];
	const char *const list[] = {f1, f2, named};
	struct harness *h = with_folders(list, 3);
	int rc;

	(void)state;
	snprintf(f1, sizeof(f1), "%s/f1", h->dir);
	snprintf(f2, sizeof(f2), "%s/f2", h->dir);
	snprintf(named, sizeof(named), "%s/vm.xml", h->dir);
	put(h, "f1/both", "of f1");
	put(h, "f2/both", "of f2");
	put(h, "f2/only", "x");
	put(h, "f1/vm.xml", "of f1");
	put(h, "vm.xml", "named");
	open_replicator(h);
	assert_int_equal(warnings(h, &rc, said, sizeof(said)), 1);
	must(rc, &h->err);
	assert_non_null(strstr(said, "2 files"));
	assert_non_null(strstr(said, "another attachment has that name"));
	assert_int_equal(exported(h, 1, "both", "of f1"), 3);
	assert_int_equal(exported(h, 1, "vm.xml", "named"), 3); /* also when it is listed last */
	harness_free(h);
}

static void test_attach_beyond_the_limit_the_first_by_name_travel(void **state)
{
	char folder[128], named[128], name[40], said[4096];
	const char *const list[] = {folder, named};
	struct harness *h = with_folders(list, 2);
	int rc;

	(void)state;
	snprintf(folder, sizeof(folder), "%s/f1", h->dir);
	snprintf(named, sizeof(named), "%s/zz.xml", h->dir);
	put(h, "zz.xml", "named");
	for (unsigned i = 0; i < IN_ALL - 1; i++) {
		snprintf(name, sizeof(name), "f1/m%03u", i);
		put(h, name, name);
	}
	open_replicator(h);
	assert_int_equal(warnings(h, &rc, said, sizeof(said)), 0);
	must(rc, &h->err);
	snprintf(name, sizeof(name), "m%03u", IN_ALL - 2);
	char content[64];
	snprintf(content, sizeof(content), "f1/%s", name);
	assert_int_equal(exported(h, 1, name, content), IN_ALL); /* the limit itself is taken */
	put(h, "f1/a", "early");
	put(h, "f1/z", "late");
	assert_int_equal(warnings(h, &rc, said, sizeof(said)), 1);
	must(rc, &h->err);
	assert_non_null(strstr(said, "2 files"));
	assert_non_null(strstr(said, "at most 256 attachments"));
	assert_int_equal(exported(h, 2, "a", "early"), IN_ALL);
	assert_int_equal(exported(h, 2, "zz.xml", "named"), IN_ALL);
	snprintf(name, sizeof(name), "m%03u", IN_ALL - 3);
	snprintf(content, sizeof(content), "f1/%s", name);
	assert_int_equal(exported(h, 2, name, content), IN_ALL);
	harness_free(h);
}

static void refused(struct harness *h, enum sosie_code code, const char *words)
{
	char said[4096], line[1200];
	int rc;

	open_replicator(h);
	assert_int_equal(warnings(h, &rc, said, sizeof(said)), 0);
	sosie_err_line(&h->err, line, sizeof(line));
	if (rc != -(int)code || !strstr(line, words))
		fail_msg("wanted %d and \"%s\": %d, %s", -(int)code, words, rc, line);
	harness_free(h);
}

static void test_attach_named_by_the_operator_and_unfit_is_refused(void **state)
{
	char path[128];
	const char *const list[] = {path};
	struct harness *h = with_folders(list, 1);

	(void)state;
	snprintf(path, sizeof(path), "%s/vm.xml~", h->dir);
	put(h, "vm.xml~", "x");
	refused(h, SOSIE_ENAME, "vm.xml~");
}

static void test_attach_named_by_the_operator_twice_is_refused(void **state)
{
	char one[128], other[128];
	const char *const list[] = {one, other};
	struct harness *h = with_folders(list, 2);

	(void)state;
	snprintf(one, sizeof(one), "%s/f1/vm.xml", h->dir);
	snprintf(other, sizeof(other), "%s/f2/vm.xml", h->dir);
	put(h, "f1/vm.xml", "x");
	put(h, "f2/vm.xml", "x");
	refused(h, SOSIE_EUSAGE, "two attachments are named vm.xml");
}

/* The system would only say that it is not a regular file. */
static void test_attach_link_to_a_folder_is_refused_with_the_way_out(void **state)
{
	char link[128], folder[128];
	const char *const list[] = {link};
	struct harness *h = with_folders(list, 1);

	(void)state;
	snprintf(folder, sizeof(folder), "%s/f1", h->dir);
	snprintf(link, sizeof(link), "%s/link", h->dir);
	put(h, "f1/vm.xml", "x");
	assert_int_equal(symlink(folder, link), 0);
	refused(h, SOSIE_ECONFIG, "is a link to a folder");
}

static void test_attach_folder_above_64_mib_is_refused(void **state)
{
	char folder[128], path[200];
	const char *const list[] = {folder};
	struct harness *h = with_folders(list, 1);

	(void)state;
	snprintf(folder, sizeof(folder), "%s/f1", h->dir);
	put(h, "f1/big", "x");
	snprintf(path, sizeof(path), "%s/big", folder);
	assert_int_equal(truncate(path, (64 << 20) + 1), 0);
	refused(h, SOSIE_ESIZE, "64 MiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_attach_unfit_names_in_folder_are_left_out_with_one_warning),
	        cmocka_unit_test(test_attach_name_twice_in_folders_first_travels),
	        cmocka_unit_test(test_attach_beyond_the_limit_the_first_by_name_travel),
	        cmocka_unit_test(test_attach_named_by_the_operator_and_unfit_is_refused),
	        cmocka_unit_test(test_attach_named_by_the_operator_twice_is_refused),
	        cmocka_unit_test(test_attach_link_to_a_folder_is_refused_with_the_way_out),
	        cmocka_unit_test(test_attach_folder_above_64_mib_is_refused),
	};

	sosie_log_init("test", SOSIE_LOG_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
