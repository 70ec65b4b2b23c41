/* SPDX-License-Identifier: MIT */
/* Key files: made and read by us and by ssh-keygen, both ways; every damage refused; nothing overwritten. */
#include "tests/unit/sign/lab.h"

#include <pthread.h>

#include "engine/sign/internal.h"

static const uint8_t seed[EVP_SEED_LEN] = {7, 1, 2, 3, [31] = 9};

static struct sosie_public public_of(const uint8_t bytes[EVP_SEED_LEN])
{
	struct sosie_public key;
	struct evp_key *k;

	OK(evp_key_new(bytes, &k, &key, &err));
	evp_key_free(k);
	return key;
}

static size_t make(const char *comment, char text[KEYFILE_TEXT])
{
	struct sosie_public key = public_of(seed);

	return keyfile_text(seed, &key, comment, 0x01020304, text);
}

static int parse(const char *text, size_t len, struct keyfile *file)
{
	sosie_err_clear(&err);
	return keyfile_parse(text, len, file, &err);
}

/* --- round trips
 * --------------------------------------------------------------------------------------------------- */

static void test_keyfile_comes_back_with_every_padding(void **state)
{
	char text[KEYFILE_TEXT], comment[KEYFILE_COMMENT_MAX + 1] = "";
	struct sosie_public key = public_of(seed);
	struct keyfile file;

	(void)state;
	for (size_t n = 0; n <= KEYFILE_COMMENT_MAX; n++) {
		size_t len = make(comment, text);

		OK(parse(text, len, &file));
		assert_int_equal(file.kind, KEYFILE_PRIVATE);
		assert_memory_equal(file.seed, seed, sizeof(seed));
		assert_true(sosie_public_equal(&file.key, &key));
		if (n < KEYFILE_COMMENT_MAX)
			comment[n] = 'c';
	}
}

static void test_keyfile_with_line_ends_of_others_is_read(void **state)
{
	char text[KEYFILE_TEXT], other[2 * KEYFILE_TEXT];
	struct keyfile file;
	size_t len = make("c", text), n = 0;

	(void)state;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n' && i > 40) /* behind the first line */
			other[n++] = '\r';
		other[n++] = text[i];
	}
	OK(parse(other, n, &file));
	OK(parse(text, len - 1, &file)); /* without the last one */
}

static void test_ssh_keygen_reads_ours(void **state)
{
	char line[512], told[512];
	struct sosie_public key, same;

	(void)state;
	need("ssh-keygen");
	OK(sosie_keygen(in_dir("ours"), "a comment", &key, &err));
	assert_int_equal(run("ssh-keygen -y -f ours >told"), 0);
	OK(sosie_public_parse(told, load("told", told, sizeof(told)), &same, line, &err));
	assert_true(sosie_public_equal(&key, &same));
	assert_int_equal(run("[ \"$(ssh-keygen -y -f ours)\" = \"$(cat ours.pub)\" ]"), 0);
	assert_int_equal(run("printf x >t && ssh-keygen -q -Y sign -f ours -n sosie-x t"), 0);
}

static void test_keyfile_of_ssh_keygen_is_read(void **state)
{
	char line[512];
	struct sosie_public key;
	struct keyfile file;

	(void)state;
	need("ssh-keygen");
	for (unsigned i = 0; i < 8; i++) { /* each length of padding */
		assert_int_equal(run("rm -f k k.pub && ssh-keygen -q -t ed25519 -N '' -C %.*s -f k",
		                     (int)i + 1, "cccccccc"),
		                 0);
		OK(keyfile_read(in_dir("k"), &file, &err));
		assert_int_equal(file.kind, KEYFILE_PRIVATE);
		OK(sosie_public_parse(line, load("k.pub", line, sizeof(line)), &key, NULL, &err));
		assert_true(sosie_public_equal(&key, &file.key));
		key = public_of(file.seed);
		assert_true(sosie_public_equal(&key, &file.key));
	}
	OK(keyfile_read(in_dir("k.pub"), &file, &err));
	assert_int_equal(file.kind, KEYFILE_PUBLIC);
	assert_true(sosie_public_equal(&key, &file.key));
}

static void test_keyfile_with_passphrase_tells_its_public_half(void **state)
{
	static const char *const ciphers[] = {"aes256-ctr", "aes256-gcm@openssh.com",
	                                      "chacha20-poly1305@openssh.com"};
	static const uint8_t zero[EVP_SEED_LEN];
	struct sosie_public key;
	struct keyfile file;
	char line[512];

	(void)state;
	need("ssh-keygen");
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(run("rm -f l l.pub && ssh-keygen -q -t ed25519 -a 1 -Z %s -N secret -f l",
		                     ciphers[i]),
		                 0);
		OK(keyfile_read(in_dir("l"), &file, &err));
		assert_int_equal(file.kind, KEYFILE_LOCKED);
		OK(sosie_public_parse(line, load("l.pub", line, sizeof(line)), &key, NULL, &err));
		assert_true(sosie_public_equal(&key, &file.key));
		assert_memory_equal(file.seed, zero, sizeof(zero));
	}
}

/* --- what is refused
 * ----------------------------------------------------------------------------------------------- */

static void test_keyfile_of_other_kind_is_unsupported(void **state)
{
	static const char pem[] = "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n";
	struct keyfile file;

	(void)state;
	REFUSED(SOSIE_EUNSUPPORTED, parse(pem, sizeof(pem) - 1, &file));
	SAYS("sosie keygen");
	need("ssh-keygen");
	assert_int_equal(run("rm -f e e.pub && ssh-keygen -q -t ecdsa -N '' -f e"), 0);
	REFUSED(SOSIE_EUNSUPPORTED, keyfile_read(in_dir("e"), &file, &err));
	SAYS("ecdsa-sha2-nistp256");
	assert_int_equal(run("rm -f e e.pub && ssh-keygen -q -t rsa -N '' -f e"), 0);
	REFUSED(SOSIE_EUNSUPPORTED, keyfile_read(in_dir("e"), &file, &err));
	assert_int_equal(run("rm -f e e.pub && ssh-keygen -q -t ecdsa -N secret -f e"), 0);
	REFUSED(SOSIE_EUNSUPPORTED, keyfile_read(in_dir("e"), &file, &err));
}

static void test_keyfile_every_cut_is_refused(void **state)
{
	char text[KEYFILE_TEXT];
	struct keyfile file;
	size_t len = make("comment", text);

	(void)state;
	for (size_t cut = 0; cut < len - 1; cut++) /* all but its last line end */
		assert_true(parse(text, cut, &file) < 0);
	strcpy(text + len, "more\n");
	assert_true(parse(text, len + 5, &file) < 0);
}

/* The body of a key file as bytes, and back. */
static size_t decoded(uint8_t *bytes, size_t size)
{
	char text[KEYFILE_TEXT], digits[KEYFILE_TEXT];
	size_t len = make("comment", text), n = 0, got;

	for (size_t i = 36; i < len - 34; i++)
		if (text[i] != '\n')
			digits[n++] = text[i];
	assert_true(sosie_unbase64(digits, n, bytes, size, &got));
	return got;
}

static int parse_bytes(const uint8_t *bytes, size_t len, struct keyfile *file)
{
	char digits[2048], text[4096];
	int n;

	sosie_base64(digits, bytes, len);
	n = snprintf(text, sizeof(text),
	             "-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n-----END OPENSSH PRIVATE KEY-----\n", digits);
	return parse(text, (size_t)n, file);
}

/* All but check (twice the same) and the comment's letters is fixed by something else. The name of the
 * cipher decides whether the rest is read at all. */
static void test_keyfile_every_byte_changed_is_refused(void **state)
{
	static const uint8_t zero[EVP_SEED_LEN];
	uint8_t bytes[1024];
	size_t len = decoded(bytes, sizeof(bytes)), comment_at = 0;
	unsigned locked = 0, refused = 0;
	struct keyfile file;

	(void)state;
	OK(parse_bytes(bytes, len, &file));
	for (size_t i = 0; i + 7 <= len; i++)
		if (memcmp(bytes + i, "comment", 7) == 0)
			comment_at = i;
	assert_true(comment_at > 0);
	for (size_t at = 0; at < len; at++) {
		int rc;

		if (at >= comment_at && at < comment_at + 7)
			continue;
		bytes[at] ^= 0x40;
		rc = parse_bytes(bytes, len, &file);
		bytes[at] ^= 0x40;
		if (rc == 0) { /* another cipher: locked, without a key */
			assert_in_range(at, 19, 22);
			assert_int_equal(file.kind, KEYFILE_LOCKED);
			locked++;
		} else {
			refused++;
		}
		assert_memory_equal(file.seed, zero, sizeof(zero));
	}
	assert_int_equal(locked, 4);
	assert_int_equal(refused, len - 7 - 4);
}

static void test_keyfile_lengths_that_lie_are_refused(void **state)
{
	static const uint32_t lies[] = {0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff};
	uint8_t bytes[1024], other[1024];
	size_t len = decoded(bytes, sizeof(bytes));
	unsigned tried = 0;
	struct keyfile file;

	(void)state;
	for (size_t at = 15; at + 4 <= len; at++)
		for (unsigned i = 0; i < 4; i++, tried++) {
			memcpy(other, bytes, len);
			for (unsigned k = 0; k < 4; k++)
				other[at + k] = (uint8_t)(lies[i] >> (24 - 8 * k));
			if (parse_bytes(other, len, &file) == 0)
				assert_true(file.kind == KEYFILE_LOCKED || at > len - 24);
		}
	assert_true(tried > 500);
	for (size_t cut = 0; cut < len; cut++)
		assert_true(parse_bytes(bytes, cut, &file) < 0);
	bytes[len] = 0;
	assert_true(parse_bytes(bytes, len + 1, &file) < 0);
}

/* Signing with one seed and another's public half gives the seed away. */
static void test_keyfile_with_halves_of_two_keys_is_refused(void **state)
{
	const uint8_t other_seed[EVP_SEED_LEN] = {8};
	struct sosie_public other = public_of(other_seed);
	char text[KEYFILE_TEXT];
	struct keyfile file;

	(void)state;
	REFUSED(SOSIE_ECONFIG, parse(text, keyfile_text(seed, &other, "c", 1, text), &file));
}

static void test_keyfile_too_large_is_refused(void **state)
{
	char *large = malloc(KEYFILE_MAX);
	struct keyfile file;

	(void)state;
	memset(large, 'A', KEYFILE_MAX);
	memcpy(large, "-----BEGIN OPENSSH PRIVATE KEY-----\n", 36);
	save("large", large, KEYFILE_MAX);
	chmod(in_dir("large"), 0600);
	REFUSED(SOSIE_ECONFIG, keyfile_read(in_dir("large"), &file, &err));
	SAYS("16384");
	free(large);
	REFUSED(SOSIE_ECONFIG, keyfile_read(dir, &file, &err));
	REFUSED(SOSIE_ENOTFOUND, keyfile_read(in_dir("none"), &file, &err));
	assert_string_equal(err.where, in_dir("none"));
	assert_int_equal(run("mkfifo fifo"), 0); /* does not wait for a writer */
	REFUSED(SOSIE_ECONFIG, keyfile_read(in_dir("fifo"), &file, &err));
}

static void test_keyfile_open_to_others_is_denied(void **state)
{
	static const unsigned modes[] = {0640, 0604, 0620, 0602, 0610, 0777};
	struct sosie_public key;
	struct keyfile file;

	(void)state;
	OK(sosie_keygen(in_dir("open"), "c", &key, &err));
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_int_equal(chmod(in_dir("open"), modes[i]), 0);
		REFUSED(SOSIE_EDENIED, keyfile_read(in_dir("open"), &file, &err));
		SAYS("chmod 600");
	}
	assert_int_equal(chmod(in_dir("open"), 0400), 0);
	OK(keyfile_read(in_dir("open"), &file, &err));
}

/* --- keygen
 * -------------------------------------------------------------------------------------------------------- */

static unsigned names_in(const char *name)
{
	char told[64];

	assert_int_equal(run("find %s -mindepth 1 | wc -l >told", name), 0);
	load("told", told, sizeof(told));
	return (unsigned)atoi(told);
}

static void test_keygen_makes_two_files_and_nothing_else(void **state)
{
	struct sosie_public key, second;
	struct keyfile file;
	struct stat st;
	char line[SOSIE_PUBLIC_LINE], want[SOSIE_PUBLIC_LINE], comment[64];
	mode_t before = umask(0);

	(void)state;
	assert_int_equal(run("mkdir new"), 0);
	OK(sosie_keygen(in_dir("new/k"), "who at where", &key, &err));
	umask(077);
	OK(sosie_keygen(in_dir("new/k2"), "", &second, &err));
	umask(before);
	assert_int_equal(names_in("new"), 4);
	assert_false(sosie_public_equal(&key, &second));
	assert_int_equal(stat(in_dir("new/k"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(stat(in_dir("new/k2.pub"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	OK(keyfile_read(in_dir("new/k"), &file, &err));
	assert_true(sosie_public_equal(&file.key, &key));
	sosie_public_line(&key, "who at where", want);
	line[load("new/k.pub", line, sizeof(line)) - 1] = '\0'; /* the line end */
	assert_string_equal(line, want);
	OK(sosie_public_parse(line, strlen(line), &second, comment, &err));
	assert_string_equal(comment, "who at where");
}

static void test_keygen_overwrites_nothing(void **state)
{
	struct sosie_public key;
	char text[16];

	(void)state;
	assert_int_equal(run("mkdir old && echo a >old/k && echo b >old/m.pub && ln -s nowhere old/n"), 0);
	REFUSED(SOSIE_EEXISTS, sosie_keygen(in_dir("old/k"), "c", &key, &err));
	SAYS("never overwritten");
	REFUSED(SOSIE_EEXISTS, sosie_keygen(in_dir("old/m"), "c", &key, &err));
	SAYS("/m.pub");
	REFUSED(SOSIE_EEXISTS, sosie_keygen(in_dir("old/n"), "c", &key, &err));
	assert_int_equal(names_in("old"), 3);
	load("old/k", text, sizeof(text));
	assert_string_equal(text, "a\n");
}

#define RACERS 4u

struct racer {
	pthread_barrier_t *start;
	struct sosie_public key;
	struct sosie_err err;
	int rc;
};

static void *race(void *arg)
{
	struct racer *r = arg;

	pthread_barrier_wait(r->start);
	r->rc = sosie_keygen("race", "c", &r->key, &r->err);
	return NULL;
}

/* Each may see that the name is free; one gets it, and both files are its own. */
static void test_keygen_many_at_once_one_wins(void **state)
{
	struct racer racers[RACERS];
	pthread_t threads[RACERS];
	pthread_barrier_t start;
	struct keyfile file, half;

	(void)state;
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(pthread_barrier_init(&start, NULL, RACERS), 0);
	for (unsigned round = 0; round < 50; round++) {
		unsigned won = 0, winner = 0;

		for (unsigned i = 0; i < RACERS; i++) {
			racers[i].start = &start;
			assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
		}
		for (unsigned i = 0; i < RACERS; i++) {
			assert_int_equal(pthread_join(threads[i], NULL), 0);
			winner = racers[i].rc == 0 ? i : winner;
			won += racers[i].rc == 0;
			assert_true(racers[i].rc == 0 || racers[i].rc == -SOSIE_EEXISTS);
		}
		assert_int_equal(won, 1);
		OK(keyfile_read("race", &file, &err));
		OK(keyfile_read("race.pub", &half, &err));
		assert_true(sosie_public_equal(&file.key, &racers[winner].key));
		assert_true(sosie_public_equal(&file.key, &half.key));
		assert_int_equal(unlink("race") + unlink("race.pub"), 0);
	}
	pthread_barrier_destroy(&start);
	assert_int_equal(chdir("/"), 0);
}

static void test_keygen_that_cannot_write_leaves_nothing(void **state)
{
	char comment[KEYFILE_COMMENT_MAX + 2] = "", longest[300];
	struct sosie_public key;

	(void)state;
	REFUSED(SOSIE_ENOTFOUND, sosie_keygen(in_dir("none/k"), "c", &key, &err));
	SAYS("folder");
	assert_int_equal(run("mkdir empty"), 0);
	REFUSED(SOSIE_EUSAGE, sosie_keygen(in_dir("empty/"), "c", &key, &err));
	REFUSED(SOSIE_EUSAGE, sosie_keygen("", "c", &key, &err));
	REFUSED(SOSIE_EUSAGE, sosie_keygen(in_dir("empty/k"), "a\nb", &key, &err));
	REFUSED(SOSIE_EUSAGE, sosie_keygen(in_dir("empty/k"), "caf\xc3\xa9", &key, &err));
	memset(comment, 'c', KEYFILE_COMMENT_MAX + 1);
	REFUSED(SOSIE_EUSAGE, sosie_keygen(in_dir("empty/k"), comment, &key, &err));
	memset(longest, 'k', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	REFUSED(SOSIE_EUSAGE, sosie_keygen(longest, "c", &key, &err));
	assert_int_equal(names_in("empty"), 0);
	comment[KEYFILE_COMMENT_MAX] = '\0';
	OK(sosie_keygen(in_dir("empty/k"), comment, &key, &err));
	assert_int_equal(names_in("empty"), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_keyfile_comes_back_with_every_padding),
	        cmocka_unit_test(test_keyfile_with_line_ends_of_others_is_read),
	        cmocka_unit_test(test_ssh_keygen_reads_ours),
	        cmocka_unit_test(test_keyfile_of_ssh_keygen_is_read),
	        cmocka_unit_test(test_keyfile_with_passphrase_tells_its_public_half),
	        cmocka_unit_test(test_keyfile_of_other_kind_is_unsupported),
	        cmocka_unit_test(test_keyfile_every_cut_is_refused),
	        cmocka_unit_test(test_keyfile_every_byte_changed_is_refused),
	        cmocka_unit_test(test_keyfile_lengths_that_lie_are_refused),
	        cmocka_unit_test(test_keyfile_with_halves_of_two_keys_is_refused),
	        cmocka_unit_test(test_keyfile_too_large_is_refused),
	        cmocka_unit_test(test_keyfile_open_to_others_is_denied),
	        cmocka_unit_test(test_keygen_makes_two_files_and_nothing_else),
	        cmocka_unit_test(test_keygen_overwrites_nothing),
	        cmocka_unit_test(test_keygen_many_at_once_one_wins),
	        cmocka_unit_test(test_keygen_that_cannot_write_leaves_nothing),
	};
	return cmocka_run_group_tests(tests, lab_open, lab_close);
}
