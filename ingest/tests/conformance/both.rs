//! Behaviours that both versions share, as macros: a client of either version is a type of rumqttc's own, so the tests are written
//! once and compiled for each. Around them stand `open`, `options`, `lasting`, `text`, and the levels of QoS.

/// Who gets which messages.
macro_rules! shared_messages {
    ($Client:ident) => {
        #[tokio::test]
        async fn basic() {
            let server = open().await;
            let (mut a, mut b) = ($Client::new(&server, "a").await, $Client::new(&server, "b").await);
            b.subscribe("topic/+", ExactlyOnce).await;
            b.subscribe("end", AtLeastOnce).await;
            for (qos, payload) in [(AtMostOnce, "0"), (AtLeastOnce, "1"), (ExactlyOnce, "2")] {
                a.publish("topic/a", qos, payload).await;
            }
            let got: Vec<_> = b.all(&mut a).await.iter().map(|message| (message.qos, text(message))).collect();
            assert_eq!(got, [(AtMostOnce, "0".into()), (AtLeastOnce, "1".into()), (ExactlyOnce, "2".into())]);
            // A second connection of the same client ends the first.
            let _again = $Client::new(&server, "a").await;
            a.line.ended().await;
        }

        #[tokio::test]
        async fn dollar_topics() {
            let server = open().await;
            let (mut a, mut b) = ($Client::new(&server, "a").await, $Client::new(&server, "b").await);
            for filter in ["#", "+/x", "+/+"] {
                a.subscribe(filter, AtLeastOnce).await;
            }
            b.publish("$private/x", AtLeastOnce, "hidden").await;
            assert!(a.all(&mut b).await.is_empty());
            a.subscribe("$private/#", AtLeastOnce).await;
            b.publish("$private/x", AtLeastOnce, "asked for").await;
            assert_eq!(a.payloads(&mut b).await, ["asked for"]);
        }
    };
}

/// What a session keeps.
macro_rules! shared_sessions {
    ($Client:ident) => {
        #[tokio::test]
        async fn redelivery_on_reconnect() {
            let server = open().await;
            let manual = || {
                let mut options = lasting(&server, "a");
                options.set_manual_acks(true);
                options
            };
            let mut a = $Client::with(manual()).await;
            a.subscribe("again/#", ExactlyOnce).await;
            let mut b = $Client::new(&server, "b").await;
            b.publish("again/1", AtLeastOnce, "one").await;
            b.publish("again/2", ExactlyOnce, "two").await;
            let first = [a.line.message().await, a.line.message().await];
            assert!(first.iter().all(|message| !message.dup));
            drop(a);
            let mut a = $Client::with(manual()).await;
            for before in &first {
                let message = a.line.message().await;
                assert_eq!((message.dup, message.pkid, &message.payload), (true, before.pkid, &before.payload));
                a.client.ack(&message).await.unwrap();
            }
            // The release of the second comes when the server has the first's acknowledgement behind it.
            a.line.until("PUBREL", |packet| matches!(packet, Packet::PubRel(_)).then_some(())).await;
            a.subscribe("end", AtLeastOnce).await;
            a.disconnect().await;
            let mut a = $Client::with(lasting(&server, "a")).await;
            assert!(a.payloads(&mut b).await.is_empty(), "what was acknowledged does not come again");
        }
    };
}
