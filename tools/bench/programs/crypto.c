// OpenSSL's library with a fixed amount of work. It is loaded at run time, so that no header and no library of the other
// architecture is needed to build this.
#include "work.h"
#include <dlfcn.h>

static void *library;

static void *symbol(const char *name) {
    void *address = dlsym(library, name);
    if (!address) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return address;
}

#define FUNCTION(result, name, ...) result (*name)(__VA_ARGS__) = symbol(#name)

enum { CHUNK = 16 << 10 };
static unsigned char input[CHUNK], output[CHUNK + 64];

static uint64_t fold(const unsigned char *bytes, size_t size) {
    uint64_t hash = 0;
    for (size_t i = 0; i < size; i++) hash = mix(hash, bytes[i]);
    return hash;
}

static void check(int ok, const char *what) {
    if (ok == 1) return;
    fprintf(stderr, "%s failed\n", what);
    exit(1);
}

static uint64_t gcm(long rounds) {
    FUNCTION(void *, EVP_CIPHER_CTX_new, void);
    FUNCTION(const void *, EVP_aes_128_gcm, void);
    FUNCTION(int, EVP_EncryptInit_ex, void *, const void *, void *, const unsigned char *, const unsigned char *);
    FUNCTION(int, EVP_EncryptUpdate, void *, unsigned char *, int *, const unsigned char *, int);
    FUNCTION(int, EVP_EncryptFinal_ex, void *, unsigned char *, int *);
    FUNCTION(int, EVP_CIPHER_CTX_ctrl, void *, int, int, void *);
    const int get_tag = 0x10;
    unsigned char tag[16];
    void *context = EVP_CIPHER_CTX_new();
    uint64_t hash = 0;
    int n;
    for (long i = 0; i < rounds; i++) {
        unsigned char key[16] = {1, 2, 3}, nonce[12] = {(unsigned char)i};
        check(EVP_EncryptInit_ex(context, EVP_aes_128_gcm(), NULL, key, nonce), "EVP_EncryptInit_ex");
        for (int part = 0; part < 64; part++) EVP_EncryptUpdate(context, output, &n, input, CHUNK);
        check(EVP_EncryptFinal_ex(context, output, &n), "EVP_EncryptFinal_ex");
        check(EVP_CIPHER_CTX_ctrl(context, get_tag, 16, tag), "EVP_CIPHER_CTX_ctrl");
        hash = mix(hash, fold(tag, sizeof tag));
    }
    return hash;
}

static uint64_t sha256(long rounds) {
    FUNCTION(int, EVP_Q_digest, void *, const char *, const char *, const void *, size_t, unsigned char *, size_t *);
    unsigned char digest[32];
    while (rounds-- > 0) {
        check(EVP_Q_digest(NULL, "SHA256", NULL, input, CHUNK, digest, NULL), "EVP_Q_digest");
        memcpy(input, digest, sizeof digest);
    }
    return fold(digest, sizeof digest);
}

static void *private_key(const char *path) {
    FUNCTION(void *, BIO_new_file, const char *, const char *);
    FUNCTION(void *, PEM_read_bio_PrivateKey, void *, void **, void *, void *);
    void *file = BIO_new_file(path, "r"), *key = file ? PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;
    check(key != NULL, path);
    return key;
}

static uint64_t sign(const char *path, long rounds, int repeatable) {
    FUNCTION(void *, EVP_MD_CTX_new, void);
    FUNCTION(void, EVP_MD_CTX_free, void *);
    FUNCTION(const void *, EVP_sha256, void);
    FUNCTION(int, EVP_DigestSignInit, void *, void **, const void *, void *, void *);
    FUNCTION(int, EVP_DigestSign, void *, unsigned char *, size_t *, const unsigned char *, size_t);
    FUNCTION(int, EVP_DigestVerifyInit, void *, void **, const void *, void *, void *);
    FUNCTION(int, EVP_DigestVerify, void *, const unsigned char *, size_t, const unsigned char *, size_t);
    void *key = private_key(path);
    uint64_t hash = 0;
    for (long i = 0; i < rounds; i++) {
        unsigned char signature[512];
        size_t size = sizeof signature;
        input[0] = (unsigned char)i;
        void *context = EVP_MD_CTX_new();
        check(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key), "EVP_DigestSignInit");
        check(EVP_DigestSign(context, signature, &size, input, 64), "EVP_DigestSign");
        EVP_MD_CTX_free(context);
        if (i == 0) {
            context = EVP_MD_CTX_new();
            check(EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key), "EVP_DigestVerifyInit");
            check(EVP_DigestVerify(context, signature, size, input, 64), "EVP_DigestVerify");
            EVP_MD_CTX_free(context);
        }
        // An elliptic curve signature contains a random number.
        hash = mix(hash, repeatable ? fold(signature, size) : 1);
    }
    return hash;
}

static uint64_t rsa(long rounds) { return sign("/work/rsa.pem", rounds, 1); }
static uint64_t ecdsa(long rounds) { return sign("/work/ec.pem", rounds, 0); }

static const struct work list[] = {{"gcm", gcm}, {"sha256", sha256}, {"rsa", rsa}, {"ecdsa", ecdsa}};

int main(int argc, char **argv) {
    library = dlopen("libcrypto.so.3", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    return run_work(list, sizeof list / sizeof *list, argc, argv);
}
